package load

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"
)

// A session of WebRTC is set up by a goroutine, step by step, and then handed to a loop:
//
//	offer ─POST─▶ answer, check ─STUN─▶ answer, DTLS ─▶ keys │ loop: SRTP on the same socket
//
// That is as much of WebRTC as a server sees of a browser on a good network; a whole
// stack for each of hundreds of players would cost more than what is measured.
const (
	rtcSetupTimeout = 10 * time.Second
	rtcByeTimeout   = 5 * time.Second
	stunPatience    = 200 * time.Millisecond
	rtcPayloadType  = 102
	maxAnswer       = 64 << 10
)

// ErrRTC says that a session of WebRTC was not set up.
var ErrRTC = errors.New("webrtc")

// rtcSetup is what the steps before the media leave.
type rtcSetup struct {
	check    []byte // a connectivity check, which keeps the session alive as well
	location string // what DELETE ends
	send     *srtp.Context
	receive  *srtp.Context
	gate     *dtlsGate // nil without media
	fd       int
}

// rtcAnswer is what we need of a server's answer.
type rtcAnswer struct {
	ufrag, pwd string
	media      netip.AddrPort
	location   string
}

// setupRTC does the steps. With hold it ends with a path that is checked, without keys.
func setupRTC(ctx context.Context, t target, publish, hold bool, ssrc uint32, cert tls.Certificate) (_ *rtcSetup, err error) {
	ctx, cancel := context.WithTimeout(ctx, rtcSetupTimeout)
	defer cancel()
	ufrag, pwd := random(4), random(12)
	a, err := t.signal(ctx, publish, offer(publish, ufrag, pwd, ssrc, cert))
	if err != nil {
		return nil, err
	}
	s := &rtcSetup{check: bindingRequest(a.ufrag+":"+ufrag, a.pwd), location: a.location, fd: -1}
	defer func() {
		if err != nil {
			s.bye(ctx)
		}
	}()
	if t.media.IsValid() {
		a.media = t.media
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", a.media.String())
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("%w: %T is no UDP socket", ErrRTC, c)
	}
	defer udp.Close()
	if err := s.checkPath(ctx, udp); err != nil {
		return nil, err
	}
	if !hold {
		if err := s.agreeOnKeys(ctx, udp, cert); err != nil {
			return nil, err
		}
	}
	// The loop gets the socket without Go's poller, which would wake up for each packet.
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer) // see dial
	if s.gate != nil {
		s.gate.handOver(s.fd)
	}
	return s, nil
}

// checkPath sends checks until one is answered.
func (s *rtcSetup) checkPath(ctx context.Context, udp *net.UDPConn) error {
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		if _, err := udp.Write(s.check); err != nil {
			return fmt.Errorf("%w: connectivity check: %w", ErrRTC, err)
		}
		_ = udp.SetReadDeadline(time.Now().Add(stunPatience))
		n, err := udp.Read(buf)
		if err == nil && isBindingSuccess(buf[:n], s.check) {
			_ = udp.SetReadDeadline(time.Time{})
			return nil
		}
	}
	return fmt.Errorf("%w: no answer to a connectivity check", ErrRTC)
}

func (s *rtcSetup) agreeOnKeys(ctx context.Context, udp *net.UDPConn, cert tls.Certificate) error {
	s.gate = &dtlsGate{UDPConn: udp, closed: make(chan struct{})}
	conn, err := dtls.ClientWithOptions(s.gate, udp.RemoteAddr(), dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret), dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80))
	if err != nil {
		return fmt.Errorf("%w: DTLS: %w", ErrRTC, err)
	}
	s.gate.dtls = conn
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: DTLS: %w", ErrRTC, err)
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return fmt.Errorf("%w: DTLS has no state", ErrRTC)
	}
	c := srtp.Config{Profile: srtp.ProtectionProfileAes128CmHmacSha1_80}
	if err := c.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		return fmt.Errorf("%w: keys: %w", ErrRTC, err)
	}
	if s.send, err = srtp.CreateContext(c.Keys.LocalMasterKey, c.Keys.LocalMasterSalt, c.Profile); err != nil {
		return err
	}
	s.receive, err = srtp.CreateContext(c.Keys.RemoteMasterKey, c.Keys.RemoteMasterSalt, c.Profile)
	return err
}

// bye ends the session at the server, twice as browsers do: DTLS says it, and DELETE.
func (s *rtcSetup) bye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rtcByeTimeout)
	defer cancel()
	if s.gate != nil {
		s.gate.end()
	}
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	if s.location == "" {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.location, nil)
	if err != nil {
		return
	}
	if res, err := http.DefaultClient.Do(req); err == nil { // else the server's own timeout ends it
		res.Body.Close()
	}
}

// dtlsGate is the socket as DTLS sees it: until the keys are there DTLS reads it; then
// the loop does, and DTLS only says good-bye.
type dtlsGate struct {
	*net.UDPConn
	dtls   *dtls.Conn
	handed atomic.Int32 // the loop's descriptor, plus 1
	closed chan struct{}
}

func (g *dtlsGate) handOver(fd int) {
	g.handed.Store(int32(fd) + 1)
	g.UDPConn.Close()
}

// ReadFrom implements net.PacketConn.
func (g *dtlsGate) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := g.UDPConn.ReadFrom(b)
	if err != nil && g.handed.Load() > 0 {
		<-g.closed
		return 0, nil, net.ErrClosed
	}
	return n, addr, err
}

// WriteTo implements net.PacketConn.
func (g *dtlsGate) WriteTo(b []byte, _ net.Addr) (int, error) {
	if fd := g.handed.Load(); fd > 0 {
		return unix.Write(int(fd)-1, b)
	}
	return g.UDPConn.Write(b)
}

// SetDeadline implements net.PacketConn; there are none once the loop has the socket.
func (g *dtlsGate) SetDeadline(t time.Time) error { return g.unlessHanded(g.UDPConn.SetDeadline, t) }

// SetReadDeadline implements net.PacketConn: see SetDeadline.
func (g *dtlsGate) SetReadDeadline(t time.Time) error {
	return g.unlessHanded(g.UDPConn.SetReadDeadline, t)
}

// SetWriteDeadline implements net.PacketConn: see SetDeadline.
func (g *dtlsGate) SetWriteDeadline(t time.Time) error {
	return g.unlessHanded(g.UDPConn.SetWriteDeadline, t)
}

func (g *dtlsGate) unlessHanded(set func(time.Time) error, t time.Time) error {
	if g.handed.Load() > 0 {
		return nil
	}
	return set(t)
}

// Close implements net.PacketConn.
func (g *dtlsGate) Close() error {
	select {
	case <-g.closed:
	default:
		close(g.closed)
	}
	return nil
}

func (g *dtlsGate) end() {
	if g.dtls != nil {
		_ = g.dtls.Close() // it says good-bye; nobody waits for an answer
	}
	_ = g.Close()
}

// signal posts the offer (WHIP is RFC 9725, WHEP its counterpart for players).
func (t target) signal(ctx context.Context, publish bool, offer string) (a rtcAnswer, err error) {
	u := &url.URL{Scheme: "http", Host: t.host, Path: "/rtc/v1/whep/", RawQuery: url.Values{"app": {t.app}, "stream": {t.stream}}.Encode()}
	if publish {
		u.Path = "/rtc/v1/whip/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(offer))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/sdp")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, fmt.Errorf("%w: offer: %w", ErrRTC, errors.Unwrap(err)) // without the URL
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return a, err
	}
	if res.StatusCode/100 != 2 {
		return a, fmt.Errorf("%w: the offer has status %s", ErrRTC, res.Status)
	}
	if where, err := u.Parse(res.Header.Get("Location")); err == nil && res.Header.Get("Location") != "" {
		a.location = where.String()
	}
	return a, a.parse(string(b))
}

// parse reads the lines of the answer that matter.
func (a *rtcAnswer) parse(sdp string) error {
	for line := range strings.Lines(sdp) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "a=ice-ufrag":
			a.ufrag = value
		case "a=ice-pwd":
			a.pwd = value
		case "a=candidate":
			// foundation component transport priority address port ...
			f := strings.Fields(value)
			if len(f) < 6 || !strings.EqualFold(f[2], "udp") || a.media.IsValid() {
				continue
			}
			addr, err := netip.ParseAddr(f[4])
			port, perr := strconv.ParseUint(f[5], 10, 16)
			if err == nil && perr == nil {
				a.media = netip.AddrPortFrom(addr, uint16(port))
			}
		}
	}
	if a.ufrag == "" || a.pwd == "" || !a.media.IsValid() {
		return fmt.Errorf("%w: the answer lacks ICE credentials or a candidate for UDP", ErrRTC)
	}
	return nil
}

func offer(publish bool, ufrag, pwd string, ssrc uint32, cert tls.Certificate) string {
	direction := "a=recvonly\r\n"
	if publish {
		direction = fmt.Sprintf("a=sendonly\r\na=msid:bench video\r\na=ssrc:%d cname:bench\r\na=ssrc:%[1]d msid:bench video\r\n", ssrc)
	}
	sum := sha256.Sum256(cert.Certificate[0])
	var finger []string
	for _, b := range sum {
		finger = append(finger, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=msid-semantic: WMS\r\n" +
		fmt.Sprintf("m=video 9 UDP/TLS/RTP/SAVPF %d\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n", rtcPayloadType) +
		"a=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd + "\r\na=fingerprint:sha-256 " + strings.Join(finger, ":") + "\r\na=setup:actpass\r\na=mid:0\r\n" +
		direction + "a=rtcp-mux\r\na=rtcp-rsize\r\n" +
		fmt.Sprintf("a=rtpmap:%d H264/90000\r\na=fmtp:%[1]d level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n", rtcPayloadType)
}

// random is a text of 2n characters.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// certificate is one for all sessions: nobody verifies it.
func certificate() (tls.Certificate, error) { return selfsign.GenerateSelfSigned() }
