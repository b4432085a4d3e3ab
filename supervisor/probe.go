package supervisor

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// probeTimeout bounds one try; the next one comes soon.
	probeTimeout = 2 * time.Second
	// firstTry and slowTry pace the tries: SRS is up within 60 ms of CPU.
	firstTry = 20 * time.Millisecond
	slowTry  = 100 * time.Millisecond
)

// identity is what an origin says of itself.
type identity struct {
	pid     int
	service string
	version string
}

// errImpostor says that another process answers on our port.
var errImpostor = errors.New("another process answers")

// probeReady asks an origin for all that ready means: its API answers as the
// process we started, and RTMP shakes hands.
func probeReady(ctx context.Context, api, rtmp netip.AddrPort, pid int) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	id, err := askIdentity(ctx, api)
	if err != nil {
		return id, err
	}
	// The command may be a script that runs the origin: then it is in our group.
	if group, err := unix.Getpgid(id.pid); id.pid != pid && (err != nil || group != pid) {
		return id, fmt.Errorf("%w on %s: pid %d, not our %d", errImpostor, api, id.pid, pid)
	}
	return id, shakeHands(ctx, rtmp)
}

// askIdentity reads /api/v1/versions, whose reply carries pid and service id.
func askIdentity(ctx context.Context, api netip.AddrPort) (identity, error) {
	var reply struct {
		PID     string `json:"pid"` // SRS writes it as a string
		Service string `json:"service"`
		Data    struct {
			Version string `json:"version"`
		} `json:"data"`
	}
	if err := getJSON(ctx, api, "/api/v1/versions", 64<<10, &reply); err != nil {
		return identity{}, err
	}
	pid, err := strconv.Atoi(reply.PID)
	if err != nil || pid <= 0 {
		return identity{}, fmt.Errorf("API on %s says no pid", api)
	}
	return identity{pid, printable(reply.Service), printable(reply.Data.Version)}, nil
}

// getJSON asks an origin's API over a connection of its own: a pool would hold
// two goroutines and their buffers for each of many origins.
func getJSON(ctx context.Context, api netip.AddrPort, path string, limit int64, into any) error {
	conn, err := dial(ctx, api)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, getRequest(api, path, "close")); err != nil {
		return fmt.Errorf("ask %s: %w", api, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("answer of %s: %w", api, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("API on %s answers %s to %s", api, resp.Status, path)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, limit)).Decode(into); err != nil {
		return fmt.Errorf("answer of %s: %w", api, err)
	}
	return nil
}

func getRequest(api netip.AddrPort, path, connection string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + api.String() + "\r\nUser-Agent: srs-proxy\r\nConnection: " + connection + "\r\n\r\n"
}

// dial connects with the context's deadline on everything that follows.
func dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// RTMP 1.0, 5.2: C0 and S0 are one byte, version 3; C1, S1, C2 and S2 are 1536.
const (
	rtmpVersion = 3
	rtmpBlock   = 1536
)

// shakeHands sends C0C1 and reads S0S1S2. SRS answers from the coroutine that
// would serve a client, so the answer says more than an open port.
func shakeHands(ctx context.Context, addr netip.AddrPort) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return greet(conn, addr)
}

func greet(conn net.Conn, addr netip.AddrPort) error {
	hello := make([]byte, 1+rtmpBlock)
	hello[0] = rtmpVersion
	// Time and zero stay 0: the simple handshake.
	_, _ = rand.Read(hello[9:]) // never fails
	if _, err := conn.Write(hello); err != nil {
		return fmt.Errorf("RTMP handshake with %s: %w", addr, err)
	}
	answer := make([]byte, 1+2*rtmpBlock)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("RTMP handshake with %s: %w", addr, err)
	}
	if answer[0] != rtmpVersion {
		return fmt.Errorf("RTMP handshake with %s: version %d in place of %d", addr, answer[0], rtmpVersion)
	}
	return nil
}
