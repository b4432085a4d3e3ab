package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"srs-proxy/bench/load"
)

// kind is how the legs of a case go.
type kind int

const (
	playing kind = iota
	publishing
)

// unit is what a case's CPU time is divided by.
type unit string

const (
	perGB unit = "CPU s/GB"
)

// benchCase is one comparison.
type benchCase struct {
	name, title string
	kind        kind
	protocol    load.Protocol
	streams     int
	players     int // of each stream
	bitrate     int // bits per second
	// merge is the origin's mw_latency in ms: for how long it collects what it writes.
	merge int
	unit  unit
	peers []string
}

func tcpPeers() []string { return peerNames() }

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
	}
}

func caseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

func (c benchCase) has(peer string) bool { return slices.Contains(c.peers, peer) }

// vhost is the origin's config of the case, for --vhosts. Without merging, min_latency
// has SRS write each message as it comes; HTTP-FLV is never without, as SRS would
// spin on its core. HLS is off where nobody plays it: writing files is no proxy's work.
func (c benchCase) vhost(dir string) string {
	realtime := "on"
	if c.merge > 0 {
		realtime = "off"
	}
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
		enabled         off;
		hls_path        %s;
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
`, realtime, c.merge, filepath.Join(dir, "hls"))
}
