package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// exchange sends one request on a connection and reads the answer's head; the
// body can be read on.
func exchange(conn net.Conn, method, host, path string, header http.Header) (*http.Response, error) {
	req := &http.Request{Method: method, Host: host, URL: &url.URL{Opaque: path}, Header: header, ProtoMajor: 1, ProtoMinor: 1}
	if before, query, ok := strings.Cut(path, "?"); ok {
		req.URL = &url.URL{Opaque: before, RawQuery: query}
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, fmt.Errorf("%s %s of %s: %w", method, path, host, err)
	}
	return resp, conn.SetDeadline(time.Time{})
}

// reply is a whole answer.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// get fetches a URL on a connection of its own. A Host in the header goes into
// the request's.
func get(t *testing.T, ctx context.Context, url string, header http.Header) reply {
	t.Helper()
	r, err := fetch(ctx, http.MethodGet, url, header)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fetch(ctx context.Context, method, url string, header http.Header) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return reply{}, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if h := header.Get("Host"); h != "" {
		req.Host = h
		req.Header.Del("Host")
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, body}, err
}

// hlsSegment walks from a playlist, by way of a master where there is one, to
// the newest segment, as a player does.
func hlsSegment(ctx context.Context, playlist string, header http.Header) (reply, error) {
	at := playlist
	for range 3 {
		r, err := fetch(ctx, http.MethodGet, at, header)
		if err != nil {
			return r, err
		}
		if r.code != http.StatusOK {
			return r, fmt.Errorf("%s: HTTP %d %s", at, r.code, r.body)
		}
		var uri string
		for line := range strings.Lines(string(r.body)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				uri = line
			}
		}
		if uri == "" {
			return r, fmt.Errorf("%s names nothing:\n%s", at, r.body)
		}
		base, err := url.Parse(at)
		if err != nil {
			return r, err
		}
		next, err := base.Parse(uri)
		if err != nil {
			return r, err
		}
		at = next.String()
		if !strings.Contains(uri, ".m3u8") {
			return fetch(ctx, http.MethodGet, at, header)
		}
	}
	return reply{}, fmt.Errorf("%s: playlists name playlists", playlist)
}
