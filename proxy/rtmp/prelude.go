package rtmp

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"srs-proxy/balancer"
	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

const (
	// preludeMax bounds what a client may send before publish or play, in bytes.
	preludeMax = 64 << 10
	// clientStreamID is the message stream that createStream gives, as SRS's.
	clientStreamID = 1
	// chunkSize is announced before connect is answered, in bytes. With the initial
	// 128 the answer would take several chunks, which some clients (go-oryx-lib)
	// can't read. The origin's own follows; ffmpeg sends each back as its own, and
	// nginx-rtmp (4096) loses its place in the stream when a client's shrinks.
	chunkSize = 4096
	// ackWindow is what SRS announces as window and bandwidth, in bytes.
	ackWindow = 2_500_000
)

var errPreludeTooLong = errors.New("more than 64 KiB before publish or play")

// prelude is what a client said up to publish or play, and how it was answered.
type prelude struct {
	role  balancer.Role
	tcURL string
	app   string
	name  string

	// raw are the client's bytes after the handshake, to be replayed. Those from
	// publishAt on begin with the publish or play command.
	raw       []byte
	publishAt int64
	recording bool

	in       *rtmp.Reader // decodes the client's chunks
	out      *rtmp.Writer // encodes ours; nil before connect
	streamID uint32       // the message stream of publish or play

	last     rtmp.Message // publish or play itself
	answered answers
}

// answers are the commands that were answered here.
type answers []answer

type answer struct {
	tid  float64
	kind answerKind
}

type answerKind int

const (
	otherCommand answerKind = iota
	connect
	createStream
)

// awaits tells whether the origin has yet to answer a command of that kind.
func (a answers) awaits(kind answerKind) bool {
	return slices.ContainsFunc(a, func(a answer) bool { return a.kind == kind })
}

// settle takes the first answer with that transaction off the list.
func (a *answers) settle(tid float64) (answerKind, bool) {
	i := slices.IndexFunc(*a, func(a answer) bool { return a.tid == tid })
	if i < 0 {
		return 0, false
	}
	kind := (*a)[i].kind
	*a = slices.Delete(*a, i, i+1)
	return kind, true
}

// read answers the client on rw until publish or play. It follows SRS: which
// commands are answered, with what, and on which chunk streams.
func (p *prelude) read(rw io.ReadWriter) error {
	p.recording = true
	p.in = rtmp.NewReader(&recorder{r: rw, p: p}, rtmp.Limits{})
	p.out = rtmp.NewWriter(rw)
	for {
		m, err := p.in.ReadMessage()
		if err != nil {
			return err
		}
		if !m.IsCommand() {
			continue
		}
		c, err := rtmp.ParseCommand(m)
		if err != nil {
			return err
		}
		done, err := p.command(c)
		if err != nil {
			return fmt.Errorf("command %q: %w", printable(c.Name), err)
		}
		if done {
			p.publishAt = p.in.Start()
			p.last, p.streamID = m, m.StreamID
			p.recording = false
			return nil
		}
	}
}

// recorder keeps what is read, for the replay.
type recorder struct {
	r io.Reader
	p *prelude
}

func (r *recorder) Read(b []byte) (int, error) {
	if r.p.recording {
		room := preludeMax - len(r.p.raw)
		if room <= 0 {
			return 0, errPreludeTooLong
		}
		b = b[:min(len(b), room)]
	}
	n, err := r.r.Read(b)
	if r.p.recording {
		r.p.raw = append(r.p.raw, b[:n]...)
	}
	return n, err
}

// command handles one command; done tells that it was publish or play.
func (p *prelude) command(c rtmp.Command) (done bool, err error) {
	switch c.Name {
	case "connect":
		return false, p.connect(c)
	case "createStream":
		return false, p.result(c, createStream, float64(clientStreamID))
	case "releaseStream", "FCPublish":
		return false, p.result(c, otherCommand, amf0.Undefined{})
	case "publish", "play":
		if p.tcURL == "" && p.app == "" {
			return false, errors.New("no connect before it")
		}
		name, ok := c.Text(0)
		if !ok {
			return false, errors.New("no stream name")
		}
		p.name = name
		if c.Name == "publish" {
			p.role = balancer.Publish
		}
		return true, nil
	case "_result", "_error", "onStatus", "FCUnpublish", "deleteStream", "closeStream":
		return false, nil
	}
	// Calls such as Haivision's _checkbw: SRS answers them with null before
	// createStream and leaves them unanswered after it; then the origin may.
	if c.TransactionID == 0 || p.answered.awaits(createStream) {
		return false, nil
	}
	return false, p.result(c, otherCommand, nil)
}

// result answers a command and remembers that it was.
func (p *prelude) result(c rtmp.Command, kind answerKind, arg any) error {
	p.answered = append(p.answered, answer{c.TransactionID, kind})
	r, err := rtmp.Command{Name: "_result", TransactionID: c.TransactionID, Args: []any{arg}}.Message(3, 0)
	if err != nil {
		return err
	}
	return p.out.WriteMessage(r)
}

// connect answers connect with what SRS answers: window, bandwidth, chunk size,
// _result and onBWDone.
func (p *prelude) connect(c rtmp.Command) error {
	args := amf0.AsObject(c.Object)
	if args == nil {
		return errors.New("no command object")
	}
	p.tcURL, p.app = args.Text("tcUrl"), args.Text("app")
	if p.tcURL == "" && p.app == "" {
		return errors.New("neither tcUrl nor app")
	}
	p.answered = append(p.answered, answer{c.TransactionID, connect})
	encoding, _ := args.Get("objectEncoding").(float64)
	properties := amf0.Object{{Key: "fmsVer", Value: "FMS/3,5,3,888"}, {Key: "capabilities", Value: 127}, {Key: "mode", Value: 1}}
	info := amf0.Object{
		{Key: "level", Value: "status"},
		{Key: "code", Value: "NetConnection.Connect.Success"},
		{Key: "description", Value: "Connection succeeded"},
		{Key: "objectEncoding", Value: encoding},
		{Key: "data", Value: amf0.ECMAArray{{Key: "version", Value: "3,5,3,888"}, {Key: "server", Value: "srs-proxy"}}},
	}
	result, err := rtmp.Command{Name: "_result", TransactionID: c.TransactionID, Object: properties, Args: []any{info}}.Message(3, 0)
	if err != nil {
		return err
	}
	bwDone, err := rtmp.Command{Name: "onBWDone"}.Message(3, 0)
	if err != nil {
		return err
	}
	return p.out.WriteMessages(
		rtmp.ControlMessage(rtmp.TypeWindowAckSize, ackWindow), rtmp.PeerBandwidthMessage(ackWindow),
		rtmp.ControlMessage(rtmp.TypeSetChunkSize, chunkSize), result, bwDone)
}

// printable keeps a stranger's word short and free of control characters.
func printable(s string) string {
	return fmt.Sprintf("%.32q", s)[1:]
}
