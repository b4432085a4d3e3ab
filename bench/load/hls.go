package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Poller plays HLS: it asks for the playlist each so often and fetches each segment
// that is new, whole, on one connection. In a report a segment counts as a frame, its
// age is how long fetching it took, and the first one's end is the first frame.
type Poller struct {
	load  *Load
	url   string
	every time.Duration
	stop  context.CancelFunc

	mu    sync.Mutex // guards the following
	begun bool
	err   error
	first int64
	tally pollTally
}

// pollTally is what came of a window.
type pollTally struct {
	segments, missed, bytes uint64
	fetch                   Histogram
}

// Bounds of what a server sends.
const (
	maxPlaylist    = 1 << 20
	hlsTimeout     = 20 * time.Second
	maxPollFailure = 10 // in a row
)

// Poll begins to play http://.../stream.m3u8, with a look at the playlist each time.
func (l *Load) Poll(address string, each time.Duration) (*Poller, error) {
	t, err := parseTarget(address)
	if err != nil {
		return nil, err
	}
	if t.protocol != HLS || each <= 0 {
		return nil, fmt.Errorf("%w: polling goes to http://.../stream.m3u8", ErrURL)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	p := &Poller{load: l, url: address, every: each, stop: cancel}
	l.mu.Lock()
	l.pollers = append(l.pollers, p)
	l.mu.Unlock()
	l.aside(func() {
		defer cancel()
		p.run(ctx)
	})
	return p, nil
}

// Running says whether the first segment has come.
func (p *Poller) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// Stop ends the poller; it is no error.
func (p *Poller) Stop() { p.stop() }

func (p *Poller) run(ctx context.Context) {
	transport := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}
	defer transport.CloseIdleConnections()
	h := &hlsClient{Poller: p, client: &http.Client{Transport: transport, Timeout: hlsTimeout}, begun: p.load.now(), list: p.url, last: -1}
	failures := 0
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		switch err := h.look(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
		case h.last < 0 && failures < maxPollFailure:
			failures++ // the stream's first segment may not be there yet
		default:
			if failures++; failures > maxPollFailure || h.last >= 0 {
				p.fail(err)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Poller) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// hlsClient is where a poller is.
type hlsClient struct {
	*Poller
	client *http.Client
	begun  int64
	list   string // the media playlist's URL, once it is known
	last   int    // sequence number of the last segment, -1 before the first
	buf    []byte
}

// look reads the playlist and fetches what is new; a player that begins takes the
// newest segment.
func (h *hlsClient) look(ctx context.Context) error {
	body, err := h.get(ctx, h.list, maxPlaylist)
	if err != nil {
		return err
	}
	pl, err := parsePlaylist(body)
	if err != nil {
		return err
	}
	if pl.variant != "" {
		if h.list, err = resolveURL(h.list, pl.variant); err != nil {
			return err
		}
		return h.look(ctx)
	}
	if len(pl.segments) == 0 {
		return fmt.Errorf("%w: no segments yet", errHLS)
	}
	newest := pl.sequence + len(pl.segments) - 1
	from := h.last + 1
	if h.last < 0 {
		from = newest
	}
	if missed := pl.sequence - from; missed > 0 {
		h.count(func(t *pollTally) { t.missed += uint64(missed) })
		from = pl.sequence
	}
	for n := from; n <= newest; n++ {
		address, err := resolveURL(h.list, pl.segments[n-pl.sequence])
		if err != nil {
			return err
		}
		before := h.load.now()
		size, err := h.drain(ctx, address)
		if err != nil {
			if ctx.Err() == nil {
				h.count(func(t *pollTally) { t.missed++ })
			}
			return err
		}
		now := h.load.now()
		h.last = n
		h.count(func(t *pollTally) {
			t.segments++
			t.bytes += uint64(size)
			t.fetch.Record(now - before)
		})
		h.came(now - h.begun)
	}
	return nil
}

func (h *hlsClient) came(after int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.Poller.begun {
		h.Poller.begun, h.first = true, max(1, after)
	}
}

// count changes the tally if the window is open.
func (p *Poller) count(f func(*pollTally)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.load.within(p.load.now()) {
		f(&p.tally)
	}
}

var errHLS = errors.New("hls")

func (h *hlsClient) open(ctx context.Context, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := h.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHLS, errors.Unwrap(err)) // without the URL
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("%w: status %s", errHLS, res.Status)
	}
	return res, nil
}

func (h *hlsClient) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	res, err := h.open(ctx, address)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(io.LimitReader(res.Body, limit))
}

// drain reads a segment to its end; one that is shorter than its length is an error.
func (h *hlsClient) drain(ctx context.Context, address string) (size int64, err error) {
	res, err := h.open(ctx, address)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if h.buf == nil {
		h.buf = make([]byte, 64<<10)
	}
	size, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, h.buf)
	if err == nil && size == 0 {
		err = fmt.Errorf("%w: an empty segment", errHLS)
	}
	return size, err
}

func resolveURL(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("%w: a URL that cannot be parsed", errHLS)
	}
	u, err := b.Parse(ref)
	if err != nil {
		return "", fmt.Errorf("%w: a URL that cannot be parsed", errHLS)
	}
	return u.String(), nil
}

// playlist is what a poller needs of one (RFC 8216).
type playlist struct {
	variant  string // of a master playlist, the first one
	sequence int    // of the first segment
	segments []string
}

func parsePlaylist(b []byte) (p playlist, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxPlaylist)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "#EXTM3U") {
		return p, fmt.Errorf("%w: not a playlist", errHLS)
	}
	master := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "#EXT-X-STREAM-INF"):
			master = true
		case strings.HasPrefix(line, "#EXT-X-MEDIA-SEQUENCE:"):
			if _, err := fmt.Sscan(line[len("#EXT-X-MEDIA-SEQUENCE:"):], &p.sequence); err != nil || p.sequence < 0 {
				return p, fmt.Errorf("%w: %s", errHLS, line)
			}
		case line == "" || line[0] == '#':
		case master:
			p.variant = line
			return p, nil
		default:
			p.segments = append(p.segments, line)
		}
	}
	return p, lines.Err()
}
