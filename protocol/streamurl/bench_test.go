package streamurl

import "testing"

func BenchmarkParseRTMP(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRTMP("rtmp://live.example.com:1935/live?vhost=a", "live", "livestream?token=x"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHTTP(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseHTTP("live.example.com:8080", "/live/livestream-12.ts", "spbhid=bGl2ZQ&hls_ctx=12345678"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseWHIP(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		q, err := ParseQuery("app=live&stream=livestream&token=x")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ParseWHIP("live.example.com", q); err != nil {
			b.Fatal(err)
		}
	}
}
