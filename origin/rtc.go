package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

// rtcServer is WHIP and WHEP: one UDP port, and perhaps one TCP port, for all
// sessions, told apart by the ICE user name fragment.
//
//	POST offer ─▶ answer ─▶ ICE, DTLS ─▶ SRTP in ─▶ fan ─▶ SRTP out, one lane per kind
//	                                        └─▶ access units ─▶ publication
//	               publication ─▶ RTP packets ─▶ fan
//
// ICE is lite: the candidates are those of the config, and what a client names as
// its own is never written to before it has shown that it is there. An origin that
// nobody talks WebRTC to has two sockets and no more: the engine, its goroutines
// and its certificate are made for the first session.
type rtcServer struct {
	o     *Origin
	cfg   RTC
	udp   *net.UDPConn // nil: off
	tcp   *listener    // nil: off
	slots *slots

	mu       sync.Mutex // guards the following
	engine   *rtcEngine
	sessions map[string]*rtcSession // by id
	ufrags   map[string]bool        // local, in use
	closed   bool
}

// rtcEngine is what all sessions share.
type rtcEngine struct {
	cert webrtc.Certificate
	udp  *rtcUDPMux
	tcp  ice.TCPMux
	logs pionLogs
}

// Bounds of WebRTC over TCP, for each session: packets read ahead, and bytes not
// taken by a slow client yet. Past them packets are lost, as on UDP.
const (
	rtcTCPRead  = 64
	rtcTCPWrite = 1 << 20
)

// udpBuffer is asked of the kernel, which may give less (net.core.rmem_max). A
// keyframe of many publishers at once must fit.
const udpBuffer = 4 << 20

func (s *rtcServer) enabled() bool { return s.udp != nil }

// listen binds the sockets, if the config has any.
func (s *rtcServer) listen(sl *slots) error {
	s.slots = sl
	s.sessions, s.ufrags = make(map[string]*rtcSession), make(map[string]bool)
	if s.cfg.Listen == "" {
		return nil
	}
	addr, err := net.ResolveUDPAddr("udp", listenAddress(s.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listen for rtc: %w", err)
	}
	if s.udp, err = net.ListenUDP("udp", addr); err != nil {
		return fmt.Errorf("listen for rtc: %w", err)
	}
	_ = s.udp.SetReadBuffer(udpBuffer) // what it gets will do
	_ = s.udp.SetWriteBuffer(udpBuffer)
	if s.cfg.TCPListen == "" {
		return nil
	}
	if s.tcp, err = listen(s.cfg.TCPListen, sl, s.o.log.With("listener", "rtc tcp")); err != nil {
		return fmt.Errorf("listen for rtc over tcp: %w", err)
	}
	return nil
}

// start makes the engine, once.
func (s *rtcServer) start() (*rtcEngine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errStopping
	case s.engine != nil:
		return s.engine, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate of DTLS: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("certificate of DTLS: %w", err)
	}
	e := &rtcEngine{cert: *cert, logs: pionLogs{s.o.log}}
	e.udp = newRTCUDPMux(s.udp, e.logs)
	if s.tcp != nil {
		e.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
			Listener:             rtcListener{s.tcp},
			Logger:               e.logs.NewLogger("tcp"),
			ReadBufferSize:       rtcTCPRead,
			WriteBufferSize:      rtcTCPWrite,
			FirstStunBindTimeout: handshakeTimeout,
		})
	}
	s.engine = e
	return e, nil
}

// close lets go of the sockets. Sessions have been ended before.
func (s *rtcServer) close() {
	s.mu.Lock()
	e := s.engine
	s.closed, s.engine = true, nil
	s.mu.Unlock()
	if e != nil {
		_ = e.udp.Close()
		if e.tcp != nil {
			_ = e.tcp.Close()
		}
	}
	if s.udp != nil {
		_ = s.udp.Close()
	}
	if s.tcp != nil {
		_ = s.tcp.Close()
	}
}

// settings are those of one session.
func (s *rtcServer) settings(e *rtcEngine, offer *rtcOffer, ufrag, pwd string) (set webrtc.SettingEngine, err error) {
	set.LoggerFactory = e.logs
	set.SetLite(true)
	set.SetICEUDPMux(e.udp)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if e.tcp != nil {
		set.SetICETCPMux(e.tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	set.SetNetworkTypes(networks)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	// The library's candidates are on loopback and never leave this process, see
	// rtcUDPMux and answerWith.
	set.SetIncludeLoopbackCandidate(true)
	set.SetIPFilter(net.IP.IsLoopback)
	set.SetICECredentials(ufrag, pwd)
	// A third without a sign of the client makes no difference, the rest ends it.
	quiet := s.cfg.Timeout / 3
	set.SetICETimeouts(quiet, s.cfg.Timeout-quiet, quiet)
	role := webrtc.DTLSRoleServer // SRS: dtls_role passive
	if offer.passive {
		role = webrtc.DTLSRoleClient
	}
	return set, set.SetAnsweringDTLSRole(role)
}

// RTCAddr and RTCTCPAddr are what Listen bound, nil where WebRTC is off.
func (o *Origin) RTCAddr() net.Addr {
	if o.rtc.udp == nil {
		return nil
	}
	return o.rtc.udp.LocalAddr()
}

// RTCTCPAddr: see RTCAddr.
func (o *Origin) RTCTCPAddr() net.Addr {
	if o.rtc.tcp == nil {
		return nil
	}
	return o.rtc.tcp.Addr()
}
