package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"srs-proxy/protocol/hls"
)

// rewritePlaylist puts the stream's token on the URIs of a playlist, so that the
// requests for its segments find the same origin through any proxy.
func (s *Server) rewritePlaylist(resp *http.Response, f *fileRequest) error {
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	if resp.Request.Method == http.MethodHead {
		resp.Header.Del("Content-Length") // that of GET is another
		resp.ContentLength = -1
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, s.cfg.MaxPlaylist+1))
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if int64(len(body)) > s.cfg.MaxPlaylist {
		return fmt.Errorf("%w: more than %d bytes", errTooLarge, s.cfg.MaxPlaylist)
	}
	resp.Body.Close()
	s.segments.observe(source{origin: f.origin.ID, service: f.origin.Service, stream: f.stream}, body, f.asked)

	token := hls.Token(f.stream.Vhost, f.stream.App, f.stream.Name)
	if _, _, _, err := hls.ParseToken(token); err == nil { // else too long: go by path
		rw := hls.Rewriter{Token: token, Public: resp.Request.Host, Origin: resp.Request.URL.Host}
		rewritten, err := rw.Rewrite(body)
		if err == nil {
			body = rewritten
		} else if !errors.Is(err, hls.ErrNotPlaylist) { // what is no playlist, or packed unasked, passes as it is
			return err
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.TransferEncoding = nil
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
