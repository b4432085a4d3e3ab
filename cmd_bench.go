package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"srs-proxy/bench"
)

func (p *program) benchCommand() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "put load on an address: publishers, players, loss, latency",
		ArgsUsage: "URL...",
		Description: "The first URL of rtmp://, whip:// or srt:// is published to; the others are played, or the same if there is no other.\n" +
			"Frames carry a number and a clock: what is lost, and how old it is when it arrives, is known exactly. With --streams 0 nothing is published and only bytes are counted.\n" +
			"Examples: srs-proxy bench rtmp://HOST/live/test\n" +
			"          srs-proxy bench rtmp://HOST/live/test http://HOST:8080/live/test.flv --streams 10 --players 50 --bitrate 2M\n" +
			"          srs-proxy bench http://HOST:8080/live/livestream.m3u8 --streams 0 --players 100\n" +
			"          srs-proxy bench whip://HOST:1985/live/test, or srt://HOST:10080/live/test\n" +
			"It loads whoever it is pointed at: point it at what is yours.\n" +
			fmt.Sprintf("Exit codes: %d nothing failed, %d a session failed or a frame was lost, or error, %d usage.", exitOK, exitFailure, exitUsage),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "streams", Value: 1, DefaultText: "1", Usage: "publish `N` streams; from 2 on their names end in -1, -2 ...; 0 plays what is there"},
			&cli.IntFlag{Name: "players", Value: 10, DefaultText: "10", Usage: "play each stream `N` times, by each URL that is played"},
			&cli.StringFlag{Name: "bitrate", Value: "1M", DefaultText: "1M", Usage: "publish `RATE` bits per second a stream, such as 800k or 2.5M"},
			&cli.DurationFlag{Name: "duration", Value: 30 * time.Second, DefaultText: "30s", Usage: "measure for `TIME`, once all sessions run; at most 1h"},
			&cli.IntFlag{Name: "ramp-up", Value: 50, DefaultText: "50", Usage: "begin `N` sessions a second"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: outputText, DefaultText: outputText, Usage: "`FORM`: text or json"},
		},
		Action: withWords(func(c *cli.Context, words []string) error {
			form, err := outputForm(c, outputText, outputJSON)
			if err != nil {
				return err
			}
			rate, err := parseBits(c.String("bitrate"))
			if err != nil {
				return usageErrorf("flag --bitrate: %q %w", c.String("bitrate"), err)
			}
			ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
			defer stop()
			return p.bench(ctx, bench.Config{
				URLs: words, Streams: c.Int("streams"), Players: c.Int("players"), Bitrate: rate, Duration: c.Duration("duration"), Rate: c.Int("ramp-up"),
			}, form)
		}),
	}
}

// parseBits reads a number of bits per second: 800000, 800k, 2.5M.
func parseBits(text string) (int, error) {
	unit := 1.0
	switch {
	case strings.HasSuffix(text, "k") || strings.HasSuffix(text, "K"):
		unit = 1e3
	case strings.HasSuffix(text, "M"):
		unit = 1e6
	}
	v, err := strconv.ParseFloat(strings.TrimRight(text, "kKM"), 64)
	if err != nil || !(v >= 0 && v*unit < 1e12) {
		return 0, errors.New("is not a rate; give bits per second, such as 800k or 2.5M")
	}
	return int(v * unit), nil
}

func (p *program) bench(ctx context.Context, cfg bench.Config, form string) error {
	bar := &benchBar{progress: newProgress(p.term.err, p.term.width), plain: p.term.width == 0, told: time.Now()}
	s, err := bench.Run(ctx, cfg, bar.tell)
	bar.progress.End()
	if config, ok := errors.AsType[bench.ConfigError](err); ok {
		return usageErrorf("bench: %w; see srs-proxy bench --help", config)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted before anything was measured")
	case err != nil:
		return err
	}
	if form == outputJSON {
		err = p.writeJSON(benchReportOf(s))
	} else {
		err = printf(p.term.out, "%s", benchText(s))
	}
	if err == nil && s.Failed() {
		err = &exitError{code: exitFailure}
	}
	return err
}

// benchBar shows how far it is: a bar, or off a terminal a line now and then.
type benchBar struct {
	*progress
	plain bool
	told  time.Time
}

// plainEvery is the time between two lines off a terminal.
const plainEvery = 5 * time.Second

func (b *benchBar) tell(p bench.Progress) {
	unit := "s"
	if p.Phase == "ramp-up" {
		unit = "sessions"
	}
	note := fmt.Sprintf("%d publishers, %d players", p.Report.RunningPublishers, p.Report.RunningPlayers)
	if n := p.Report.Failed(); n > 0 {
		note += fmt.Sprintf(", %d failed", n)
	}
	if !b.plain {
		b.drawBar(p.Done, p.Total, fmt.Sprintf("%s %s", unit, p.Phase), note)
		return
	}
	if now := time.Now(); now.Sub(b.told) >= plainEvery {
		b.told = now
		_, _ = fmt.Fprintf(b.progress, "%s: %d/%d %s, %s\n", p.Phase, p.Done, p.Total, unit, note) // the summary tells all
	}
}

// benchReport is the summary for programs. Times are in ms, rates in bits per second.
type benchReport struct {
	Publishers        int            `json:"publishers"`
	Players           int            `json:"players"`
	RunningPublishers int            `json:"running_publishers"`
	RunningPlayers    int            `json:"running_players"`
	NotBegun          int            `json:"not_begun"`
	Errors            map[string]int `json:"errors"`
	Seconds           float64        `json:"seconds"`
	InBps             float64        `json:"in_bps"`
	OutBps            float64        `json:"out_bps"`
	Bytes             uint64         `json:"bytes"`
	ExpectedFrames    uint64         `json:"expected_frames"`
	LostFrames        uint64         `json:"lost_frames"`
	DamagedFrames     uint64         `json:"damaged_frames"`
	DisorderedFrames  uint64         `json:"disordered_frames"`
	LatencyP50        float64        `json:"latency_p50_ms"`
	LatencyP99        float64        `json:"latency_p99_ms"`
	FirstFrameP50     float64        `json:"first_frame_p50_ms"`
	FirstFrameP99     float64        `json:"first_frame_p99_ms"`
	LoadLateP99       float64        `json:"load_late_p99_ms"`
	Failed            bool           `json:"failed"`
}

func benchReportOf(s *bench.Summary) benchReport {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	errs := make(map[string]int, len(s.Errors))
	for text, n := range s.Errors {
		errs[printable(text)] += n
	}
	return benchReport{
		Publishers: s.Publishers, Players: s.Players, RunningPublishers: s.RunningPublishers, RunningPlayers: s.RunningPlayers, NotBegun: s.Missing,
		Errors: errs, Seconds: s.Elapsed.Seconds(), InBps: float64(s.In*8) / s.Elapsed.Seconds(), OutBps: float64(s.Out*8) / s.Elapsed.Seconds(), Bytes: s.Out,
		ExpectedFrames: s.Expected.Frames, LostFrames: s.Lost(), DamagedFrames: s.Damaged, DisorderedFrames: s.Disordered,
		LatencyP50: ms(s.Age.Quantile(.5)), LatencyP99: ms(s.Age.Quantile(.99)), FirstFrameP50: ms(s.First.Quantile(.5)), FirstFrameP99: ms(s.First.Quantile(.99)),
		LoadLateP99: ms(s.Late.Quantile(.99)), Failed: s.Failed(),
	}
}

// lateBench is how much behind its publishers may be before it is the load that is slow.
const lateBench = 20.0

// benchText is the summary for people.
func benchText(s *bench.Summary) string {
	r := benchReportOf(s)
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	line("sessions", "%d of %d publishers, %d of %d players to the end", r.RunningPublishers, r.Publishers, r.RunningPlayers, r.Players)
	if r.NotBegun > 0 {
		line("", "%d had not begun in time", r.NotBegun)
	}
	line("errors", "%d", s.Report.Failed())
	texts := make([]string, 0, len(r.Errors))
	for text := range r.Errors {
		texts = append(texts, text)
	}
	slices.Sort(texts)
	for _, text := range texts {
		line("", "%d x %s", r.Errors[text], text)
	}
	line("throughput", "in %sb/s, out %sb/s; %s in %.1f s", formatBits(r.InBps), formatBits(r.OutBps), formatBytes(r.Bytes), r.Seconds)
	switch {
	case r.ExpectedFrames > 0:
		line("loss", "%d of %d (%.3f %%), %d damaged, %d out of order", r.LostFrames, r.ExpectedFrames, 100*s.Loss(), r.DamagedFrames, r.DisorderedFrames)
	case !s.Published:
		line("loss", "unknown: the streams are of others")
	}
	if s.Age.Count() > 0 {
		line("latency", "p50 %.2f ms, p99 %.2f ms", r.LatencyP50, r.LatencyP99)
	}
	if s.First.Count() > 0 {
		line("first frame", "p50 %.1f ms, p99 %.1f ms", r.FirstFrameP50, r.FirstFrameP99)
	}
	if r.LoadLateP99 > lateBench {
		line("note", "this machine was too busy to make the load: its publishers were %.0f ms late (p99)", r.LoadLateP99)
	}
	return b.String()
}
