package main

import (
	"testing"
	"time"

	"srs-proxy/origin"
	"srs-proxy/srsconf"
)

// TestOriginConfig: what the built-in origin takes of an SRS config.
func TestOriginConfig(t *testing.T) {
	const listen = "rtmp { listen 127.0.0.1:1935; } "
	tests := []struct {
		name, conf string
		want       func(*origin.Config)
	}{
		{"nothing but a listener", "", func(*origin.Config) {}},
		{
			"a vhost's timing",
			`vhost __defaultVhost__ {
				play { mw_latency 100; gop_cache off; }
				publish { firstpkt_timeout 7000; normal_timeout 3000; }
				hls { enabled on; hls_fragment 2.5; hls_window 30; hls_dispose 90; }
			}`,
			func(c *origin.Config) {
				c.MergedWrite, c.GOPCache = 100*time.Millisecond, false
				c.PublishFirst, c.PublishNormal = 7*time.Second, 3*time.Second
				c.HLSEnabled, c.HLSFragment, c.HLSWindow = true, 2500*time.Millisecond, 30*time.Second
				c.HLSDispose = 90 * time.Second
			},
		},
		{
			"rtc",
			`rtc_server { enabled on; listen 8001; candidate 10.0.0.1; protocol all; tcp { enabled on; listen 8002; } }
			vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; rtc_to_rtmp on; pli_for_rtmp 2.5; stun_timeout 20; } }`,
			func(c *origin.Config) {
				c.RTC = origin.RTC{
					Listen: "0.0.0.0:8001", TCPListen: "0.0.0.0:8002", Protocol: "all", Candidate: "10.0.0.1",
					FromRTMP: true, ToRTMP: true, KeyframeEvery: 2500 * time.Millisecond, Timeout: 20 * time.Second,
				}
			},
		},
		{"rtc that no vhost has", `rtc_server { enabled on; listen 8001; }`, func(*origin.Config) {}},
		{
			"srt",
			`srt_server { enabled on; listen 127.0.0.1:10081; passphrase 0123456789; latency 200; recvlatency 50;
				peer_idle_timeout 8000; default_app tv; }
			vhost __defaultVhost__ { srt { enabled on; srt_to_rtmp off; } }`,
			func(c *origin.Config) {
				c.SRT = origin.SRT{
					Listen: "127.0.0.1:10081", Passphrase: "0123456789", DefaultApp: "tv",
					DefaultStreamID: "#!::r=live/livestream,m=publish",
					RecvLatency:     200 * time.Millisecond, PeerLatency: 200 * time.Millisecond, PeerIdle: 8 * time.Second,
				}
			},
		},
		{"srt that no vhost has", `srt_server { enabled on; }`, func(*origin.Config) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, err := srsconf.Parse("test.conf", []byte(listen+tt.conf))
			if err != nil {
				t.Fatal(err)
			}
			got, err := originConfigOf(root)
			if err != nil {
				t.Fatal(err)
			}
			want := origin.DefaultConfig()
			tt.want(&want)
			for _, c := range []struct {
				name      string
				got, want any
			}{
				{"mw_latency", got.MergedWrite, want.MergedWrite},
				{"gop_cache", got.GOPCache, want.GOPCache},
				{"firstpkt_timeout", got.PublishFirst, want.PublishFirst},
				{"normal_timeout", got.PublishNormal, want.PublishNormal},
				{"hls", got.HLSEnabled, want.HLSEnabled},
				{"hls_fragment", got.HLSFragment, want.HLSFragment},
				{"hls_window", got.HLSWindow, want.HLSWindow},
				{"hls_dispose", got.HLSDispose, want.HLSDispose},
				{"rtc", got.RTC.Listen, want.RTC.Listen},
				{"srt", got.SRT.Listen, want.SRT.Listen},
			} {
				if c.got != c.want {
					t.Errorf("%s = %v, want %v", c.name, c.got, c.want)
				}
			}
			if want.RTC.Listen != "" && got.RTC != want.RTC {
				t.Errorf("rtc = %+v, want %+v", got.RTC, want.RTC)
			}
			if want.SRT.Listen != "" && got.SRT != want.SRT {
				t.Errorf("srt = %+v, want %+v", got.SRT, want.SRT)
			}
		})
	}
}
