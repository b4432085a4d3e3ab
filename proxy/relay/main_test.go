package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a relay that has no descriptor left. It is a
// process of its own so that nothing else is.
const childEnv = "SRS_PROXY_TEST_RELAY"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := relayWithoutDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Running out of descriptors turns new sessions away and ends none that runs.
func TestPairsOutliveAWantOfDescriptors(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	// The race detector's second at exit serves nobody here.
	cmd.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func relayWithoutDescriptors() error {
	var conns [4]*net.TCPConn
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for i := 0; i < 4; i += 2 {
		a, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		b, err := ln.Accept()
		if err != nil {
			return err
		}
		conns[i], conns[i+1] = a.(*net.TCPConn), b.(*net.TCPConn)
	}
	ln.Close()
	client, origin := conns[0], conns[2]
	done := make(chan error, 1)
	pair := New(Config{}).Pair(conns[1], conns[3])
	prologue := make(chan error)
	pair.Prologue = func() error { return <-prologue }
	go func() { done <- pair.Run(context.Background()) }()
	if _, err := client.Write([]byte("0")); err != nil {
		return err
	}
	if _, err := io.ReadFull(origin, make([]byte, 1)); err != nil { // it runs
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: 0}); err != nil {
		return err
	}
	if p, err := os.Open(os.DevNull); !errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("descriptors are still to be had: %v, %w", p, err)
	}
	prologue <- nil
	go func() { // an echo
		_, _ = io.Copy(struct{ io.Writer }{origin}, struct{ io.Reader }{origin})
		_ = origin.CloseWrite()
	}()
	sent := bytes.Repeat([]byte("0123456789abcde"), 300_000)
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(client)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", len(got), len(sent), err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
	}
	if err := <-done; err != nil {
		return err
	}
	if want := (Result{FromClient: 1 + int64(len(sent)), FromOrigin: int64(len(sent))}); pair.Bytes() != want {
		return fmt.Errorf("counted %+v, want %+v", pair.Bytes(), want)
	}
	return nil
}
