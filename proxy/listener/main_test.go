package listener

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a server that is short of descriptors. It is a
// process of its own so that nothing else is.
const childEnv = "SRS_PROXY_TEST_LISTENER"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serveShortOfDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// childResult is what the child says before it ends.
type childResult struct {
	Stats Stats
	Left  int // descriptors that Close left
}

// spare is how many descriptors the child has for clients.
const spare = 8

// serveShortOfDescriptors greets each client and keeps it until it leaves, with
// room for a few. It says its address, and at the end of its input closes the
// listener and says what came of it.
func serveShortOfDescriptors() error {
	before := descriptors()
	l, err := Listen("127.0.0.1:0", Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	most := uint64(descriptors() + spare)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		return err
	}
	fmt.Println(l.Addr())
	accepted := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				accepted <- err
				return
			}
			go greet(c)
		}
	}()
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != io.EOF {
		return fmt.Errorf("standard input: %w", err)
	}
	held := l.Stats().Active
	if err := l.Close(); err != nil {
		return err
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("accept after close: %w", err)
	}
	// The epoll descriptor (and its wake-up) came with the first socket.
	return json.NewEncoder(os.Stdout).Encode(childResult{Stats: l.Stats(), Left: descriptors() - before - int(held) - 2})
}

func greet(c net.Conn) {
	defer c.Close()
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}

// descriptors counts the open ones of this process.
func descriptors() int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return -1
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return len(names) - 1 // without the one that counts
}
