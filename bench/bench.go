// Package bench puts load on a media server's address and says how it fares.
//
//	URLs ─▶ plan ─▶ publishers, then players, one after another ─▶ window ─▶ Summary
//
// What the load is made of, and how it is measured, is in package load; the comparison
// with other proxies in package compare.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/bench/load"
)

// Config is what to put on whom.
type Config struct {
	// URLs are those of package load, and whip:// and whep:// for webrtc://. The first
	// that can be published to is, if Streams is not 0; what is played is the others, or
	// the same if there is no other.
	URLs []string
	// Streams is how many to publish; from 2 on their names are those of the URLs with -1,
	// -2 and so on. 0 plays what somebody else publishes.
	Streams int
	// Players is how many play each stream, of each URL that is played.
	Players int
	Bitrate int // of a stream, in bits per second
	// Duration is the length of the measurement, Rate the sessions a second that begin
	// before it.
	Duration time.Duration
	Rate     int
}

// Bounds of a Config.
const (
	MaxSessions = 20_000
	MaxDuration = time.Hour
	MinBitrate  = 20_000
	MaxBitrate  = 100_000_000
	MaxRate     = 2000
)

// ConfigError says why a Config asks for what cannot be.
type ConfigError string

func (e ConfigError) Error() string { return string(e) }

func wrong(format string, args ...any) error { return ConfigError(fmt.Sprintf(format, args...)) }

func (c *Config) validate() error {
	switch {
	case len(c.URLs) == 0:
		return wrong("no URL is given")
	case c.Streams < 0 || c.Players < 0:
		return wrong("the numbers of streams and players cannot be negative")
	case c.Bitrate < MinBitrate || c.Bitrate > MaxBitrate:
		return wrong("a bit rate is %d to %d bits per second", MinBitrate, MaxBitrate)
	case c.Duration < time.Second || c.Duration > MaxDuration:
		return wrong("a duration is 1 s to %v", MaxDuration)
	case c.Rate < 1 || c.Rate > MaxRate:
		return wrong("a ramp-up is 1 to %d sessions a second", MaxRate)
	case c.Streams > MaxSessions || c.Players > MaxSessions || max(1, c.Streams)*c.Players*len(c.URLs)+c.Streams > MaxSessions:
		return wrong("that is more than %d sessions", MaxSessions)
	}
	return nil
}

// Progress is how far a run is.
type Progress struct {
	// Phase is "ramp-up", or "measuring".
	Phase string
	// Done of Total: sessions that run, or seconds.
	Done, Total int
	Report      *load.Report
}

// Summary is the outcome of a run.
type Summary struct {
	*load.Report
	// Published says that the streams were ours: loss and age are known.
	Published bool
	// Missing is how many sessions had not begun when the window opened.
	Missing int
	// Elapsed is the window's length, and In and Out what went to and came from the
	// server in it, in bytes of media.
	Elapsed time.Duration
	In, Out uint64
}

// Failed says that something went wrong: a session failed or did not begin, or a frame
// was lost or damaged.
func (s *Summary) Failed() bool {
	return s.Report.Failed() > 0 || s.Missing > 0 || s.Lost() > 0 || s.Damaged > 0
}

// hls ends the path of what is polled.
const hls = ".m3u8"

// Run puts the load on the server, and tells of the progress twice a second. When the
// context ends early, the summary is of what was measured until then; it is nil if
// nothing was. Errors of sessions are in the summary.
func Run(ctx context.Context, c Config, tell func(Progress)) (*Summary, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	p, err := newPlan(c)
	if err != nil {
		return nil, err
	}
	if err := enoughDescriptors(p.sessions()); err != nil {
		return nil, err
	}
	l, err := load.New()
	if err != nil {
		return nil, err
	}
	lctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- l.Run(lctx) }()
	r := &run{Config: c, plan: p, load: l, tell: tell}
	s, err := r.run(ctx)
	stop()
	if errors.Is(err, load.ErrURL) {
		err = ConfigError(err.Error())
	}
	return s, errors.Join(err, <-ended)
}

// enoughDescriptors says whether this process may open that many sockets.
func enoughDescriptors(sessions int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil //nolint:nilerr // who cannot be asked is not obeyed
	}
	const own = 50
	if uint64(sessions+own) > limit.Cur {
		return wrong("%d sessions need more descriptors than the limit of %d; raise it: ulimit -n %d", sessions, limit.Cur, sessions+own)
	}
	return nil
}

// plan is which URLs are published and played.
type plan struct {
	publish []string
	play    [][]string // by stream
	players int
}

func newPlan(c Config) (p plan, err error) {
	p.players = c.Players
	urls := make([]string, 0, len(c.URLs))
	for _, raw := range c.URLs {
		urls = append(urls, aliases(raw))
	}
	publish := -1
	if c.Streams > 0 {
		for i, u := range urls {
			if canPublish(u) {
				publish = i
				break
			}
		}
		if publish < 0 {
			return p, wrong("none of the URLs can be published to (rtmp://, whip://, srt://); --streams 0 plays what is there")
		}
	}
	for n := range max(1, c.Streams) {
		var play []string
		for i, u := range urls {
			named, err := numbered(u, n, c.Streams)
			if err != nil {
				return p, err
			}
			if i == publish {
				p.publish = append(p.publish, named)
			}
			if i != publish || len(urls) == 1 {
				play = append(play, named)
			}
		}
		p.play = append(p.play, play)
	}
	return p, nil
}

func (p plan) sessions() int {
	n := len(p.publish)
	for _, urls := range p.play {
		n += len(urls) * p.players
	}
	return n
}

// aliases makes one scheme of those of WebRTC.
func aliases(raw string) string {
	for _, scheme := range []string{"whip://", "whep://"} {
		if rest, ok := strings.CutPrefix(raw, scheme); ok {
			return "webrtc://" + rest
		}
	}
	return raw
}

func canPublish(u string) bool {
	for _, scheme := range []string{"rtmp://", "webrtc://", "srt://"} {
		if strings.HasPrefix(u, scheme) {
			return true
		}
	}
	return false
}

// numbered is the URL of the nth of some streams: live/a.flv?x becomes live/a-2.flv?x.
func numbered(raw string, n, of int) (string, error) {
	if of < 2 {
		return raw, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", wrong("a URL cannot be parsed") // it may have a secret
	}
	if u.Path == "" {
		return "", wrong("%s://%s has no stream to number; write srt://HOST/app/stream", u.Scheme, u.Host)
	}
	ext := path.Ext(u.Path)
	u.Path = strings.TrimSuffix(u.Path, ext) + "-" + strconv.Itoa(n+1) + ext
	return u.String(), nil
}
