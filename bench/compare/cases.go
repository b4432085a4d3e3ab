package main

import (
	"fmt"
	"slices"

	"srs-proxy/bench/load"
)

// kind is how the legs of a case go.
type kind int

const (
	playing    kind = iota // streams published at the origin, players through the peer
	publishing             // publishers through the peer, a few players at the origin
	polling                // streams published at the origin, HLS through the peer
	conversing             // publishers and players through the peer
	holding                // sessions that have nothing to do
	churning               // sessions that come and go while others stay
)

// unit is what a case's figure is.
type unit string

const (
	perGB      unit = "CPU s/GB"
	perPackets unit = "CPU s/million packets"
	perHeld    unit = "KB of memory/session"
	perNew     unit = "CPU ms/new session"
)

// benchCase is one comparison.
type benchCase struct {
	name, title string
	kind        kind
	protocol    load.Protocol
	streams     int
	players     int // of each stream; of holding and churning, all that are held
	bitrate     int // bits per second
	// merge is the origin's mw_latency in ms: for how long it collects what it writes.
	merge int
	// rate is the number of new sessions a second.
	rate int
	// builtin runs the case on the built-in origin whatever SRS there is.
	builtin bool
	unit    unit
	peers   []string
}

func tcpPeers() []string { return peerNames() }

// udpPeers lacks HAProxy, which knows no UDP.
func udpPeers() []string { return []string{peerDirect, peerOurs, peerNginx, peerExisting} }

// without direct, which has no proxy whose memory could grow.
func proxies(peers []string) []string { return peers[1:] }

// cases are those of the table in docs/BENCH.md.
func cases() []benchCase {
	return []benchCase{
		{name: "rtmp", title: "RTMP play, 10 streams x 10 players x 2 Mb/s, a write per frame",
			protocol: load.RTMP, streams: 10, players: 10, bitrate: 2e6, unit: perGB, peers: tcpPeers()},
		{name: "rtmp-fan", title: "RTMP play, 1 stream x 200 players x 1 Mb/s",
			protocol: load.RTMP, streams: 1, players: 200, bitrate: 1e6, unit: perGB, peers: tcpPeers()},
		{name: "rtmp-merged", title: "RTMP play, 10 x 10 x 2 Mb/s, writes merged over 350 ms",
			protocol: load.RTMP, streams: 10, players: 10, bitrate: 2e6, merge: 350, unit: perGB, peers: tcpPeers()},
		{name: "flv", title: "HTTP-FLV, 10 streams x 10 players x 2 Mb/s",
			protocol: load.FLV, streams: 10, players: 10, bitrate: 2e6, merge: 20, unit: perGB, peers: tcpPeers()},
		{name: "flv-fan", title: "HTTP-FLV, 1 stream x 200 players x 1 Mb/s",
			protocol: load.FLV, streams: 1, players: 200, bitrate: 1e6, merge: 20, unit: perGB, peers: tcpPeers()},
		{name: "publish", title: "RTMP publish, 100 streams x 2 Mb/s",
			kind: publishing, protocol: load.RTMP, streams: 100, bitrate: 2e6, unit: perGB, peers: tcpPeers()},
		{name: "hls", title: "HLS, 5 streams x 20 pollers x 2 Mb/s",
			kind: polling, protocol: load.HLS, streams: 5, players: 20, bitrate: 2e6, merge: 350, unit: perGB, peers: tcpPeers()},
		{name: "webrtc", title: "WebRTC, 5 streams x 10 players x 1 Mb/s",
			kind: conversing, protocol: load.WebRTC, streams: 5, players: 10, bitrate: 1e6, unit: perPackets, peers: udpPeers()},
		{name: "srt", title: "SRT, 5 streams x 4 players x 2 Mb/s",
			kind: conversing, protocol: load.SRT, streams: 5, players: 4, bitrate: 2e6, unit: perPackets, peers: udpPeers()},
		{name: "idle-rtmp", title: "2,000 idle RTMP players",
			kind: holding, protocol: load.RTMP, streams: 1, players: 2000, unit: perHeld, peers: proxies(tcpPeers())},
		{name: "idle-flv", title: "2,000 idle HTTP-FLV players",
			kind: holding, protocol: load.FLV, streams: 1, players: 2000, merge: 20, unit: perHeld, peers: proxies(tcpPeers())},
		{name: "idle-webrtc", title: "1,000 idle WebRTC players",
			kind: holding, protocol: load.WebRTC, streams: 1, players: 1000, unit: perHeld, peers: proxies(udpPeers())},
		{name: "idle-srt", title: "500 idle SRT players",
			kind: holding, protocol: load.SRT, streams: 1, players: 500, unit: perHeld, peers: proxies(udpPeers())},
		// SRS takes about a millisecond of its one core for a session's beginning: 1,000 a
		// second are more than it can do, whatever is in front of it.
		{name: "churn", title: "5,000 RTMP players held, 1,000 new ones a second, built-in origin",
			kind: churning, builtin: true, protocol: load.RTMP, streams: 10, players: 5000, rate: 1000, unit: perNew, peers: tcpPeers()},
	}
}

// scaled is the case with a share of its sessions.
func (c benchCase) scaled(share float64) benchCase {
	if share == 1 {
		return c
	}
	some := func(n int) int { return min(n, max(1, int(float64(n)*share+.5))) }
	c.streams, c.players, c.rate = some(c.streams), some(c.players), some(c.rate)
	return c
}

func caseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

func (c benchCase) has(peer string) bool { return slices.Contains(c.peers, peer) }

// publishesAtOrigin says that the case's streams are published there once, for all legs.
func (c benchCase) publishesAtOrigin() bool { return c.kind == playing || c.kind == polling }

// vhost is the origin's config of the case, for --vhosts. Without merging, min_latency
// has SRS write each message as it comes; HTTP-FLV is never without, as SRS would
// spin on its core. HLS is on where it is played: writing files is no proxy's work.
func (c benchCase) vhost() string {
	onOff := map[bool]string{true: "on", false: "off"}
	return fmt.Sprintf(`vhost __defaultVhost__ {
	tcp_nodelay     on;
	min_latency     %s;
	play {
		gop_cache               on;
		gop_cache_max_frames    2500;
		queue_length            10;
		mw_latency              %d;
		mw_msgs                 0;
	}
	http_remux {
		enabled     on;
		mount       [vhost]/[app]/[stream].flv;
	}
	hls {
		enabled         %s;
		hls_fragment    2;
		hls_window      30;
	}
	rtc {
		enabled         on;
		rtmp_to_rtc     off;
		rtc_to_rtmp     off;
	}
	srt {
		enabled         on;
		srt_to_rtmp     off;
	}
}
`, onOff[c.merge == 0], c.merge, onOff[c.protocol == load.HLS])
}
