package supervisor

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/srsconf"
)

// The test binary is the fake origin too: "BINARY child MODE -c FILE". A file
// "mode" in the work dir, where there is one, goes before MODE.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		os.Exit(fakeOrigin(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "locker" {
		if err := lockFake(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(6)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute)
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "supervise" {
		os.Exit(superviseMain(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "sleeper" {
		time.Sleep(time.Minute)
		return
	}
	os.Exit(m.Run())
}

func fakeOrigin(mode string, args []string) int {
	file := args[len(args)-1]
	root, err := srsconf.ParseFile(file)
	if err != nil {
		fmt.Println("cannot read config:", err)
		return 2
	}
	if args[0] == "-t" {
		if root.Get("refuse_me") != nil {
			fmt.Println("\x1b[31m[2026-01-01 00:00:00.000][ERROR][7][abc][22] illegal directive refuse_me\x1b[0m")
			return 22
		}
		if fault(root.Value("work_dir"), "refuse") {
			fmt.Println("refused")
			return 1
		}
		return 0
	}
	if text, err := os.ReadFile(filepath.Join(root.Value("work_dir"), "mode")); err == nil {
		mode = strings.TrimSpace(string(text))
	}
	if notes := os.Getenv("WITNESS"); notes != "" {
		go writeSignals(notes)
	}
	switch mode {
	case "crash":
		fmt.Fprintln(os.Stderr, "something is very wrong")
		return 3
	case "mute": // starts and never listens
		time.Sleep(time.Minute)
	case "deaf":
		signal.Ignore(syscall.SIGTERM, syscall.SIGQUIT)
	case "chatter":
		go func() {
			line := []byte(strings.Repeat("x", 1000) + "\n")
			for {
				os.Stdout.Write(line)
			}
		}()
	case "logger":
		go writeNumbers(root.Value("srs_log_file"))
	case "eater":
		go eatMemory(root.Value("work_dir"))
	case "fork", "escape", "zombie":
		forkGrandchild(mode, root.Value("work_dir"))
	}
	if err := lockFake(root.Value("pid")); err != nil {
		fmt.Println(err)
		return 6
	}
	serveFake(root, mode)
	if mode == "deaf" {
		select {}
	}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGTERM, syscall.SIGQUIT)
	<-quit
	return 0
}

// eatMemory takes up to 2 GiB when the file "eat" tells it to.
func eatMemory(dir string) {
	for !fault(dir, "eat") {
		time.Sleep(5 * time.Millisecond)
	}
	var eaten [][]byte
	for range 128 {
		b := make([]byte, 16<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		eaten = append(eaten, b)
	}
	fmt.Println("still alive with", len(eaten))
}

// forkGrandchild leaves a process behind whose pid is in the file "grandchild".
func forkGrandchild(mode, dir string) {
	exe, _ := os.Executable()
	cmd := exec.Command(exe, "sleeper")
	switch mode {
	case "escape":
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	case "zombie": // the shell ends at once, and its child soon: an orphan's zombie
		cmd = exec.Command("/bin/sh", "-c", "sleep 0.2 & echo $! > grandchild.new; mv grandchild.new grandchild")
		cmd.Dir = dir
		_ = cmd.Run()
		return
	}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	tmp := filepath.Join(dir, "grandchild.new")
	_ = os.WriteFile(tmp, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	_ = os.Rename(tmp, filepath.Join(dir, "grandchild"))
}

// writeSignals writes down all signals that can be caught.
func writeSignals(notes string) {
	all := make(chan os.Signal, 16)
	signal.Notify(all)
	f, err := os.Create(notes)
	if err != nil {
		fmt.Println(err)
		os.Exit(7)
	}
	for sig := range all {
		if sig != syscall.SIGURG { // the Go runtime's own
			fmt.Fprintln(f, sig)
		}
	}
}

func serveFake(root *srsconf.Directive, mode string) {
	listeners, err := srsconf.Listeners(root)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, l := range listeners {
		if l.Network != "tcp" {
			continue
		}
		ln, err := net.Listen("tcp", l.Addr.String())
		if err != nil {
			fmt.Println(err)
			os.Exit(5)
		}
		switch {
		case l.Directive == "http_api":
			dir := root.Value("work_dir")
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if fault(dir, "silent-api") {
					<-r.Context().Done()
					return
				}
				fakeAPI(w, r)
			})}
			if mode == "close" {
				srv.SetKeepAlivesEnabled(false)
			}
			go srv.Serve(ln)
		case l.Directive == "listen" || l.Directive == "rtmp":
			go fakeRTMP(ln, root.Value("work_dir"))
		}
	}
}

// fault says that a file in the work dir makes the origin behave badly.
func fault(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func fakeRTMP(ln net.Listener, dir string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if fault(dir, "full") {
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 1537)); err == nil {
				if !fault(dir, "silent-rtmp") {
					s := make([]byte, 3073)
					s[0] = 3
					c.Write(s)
				}
				io.Copy(io.Discard, c) // a client that stays
			}
		}()
	}
}

func fakeAPI(w http.ResponseWriter, r *http.Request) {
	reply := map[string]any{"code": 0, "server": "vid-1", "service": "svc-" + strconv.Itoa(os.Getpid()), "pid": strconv.Itoa(os.Getpid())}
	if lie := os.Getenv("LIE_PID"); lie != "" {
		reply["pid"] = lie
	}
	switch {
	case r.URL.Path == "/api/v1/versions":
		reply["data"] = map[string]any{"version": "7.0.18"}
	case r.URL.Path == "/api/v1/streams/" && r.URL.Query().Get("count") != "":
		reply["streams"] = []any{
			map[string]any{"clients": 3, "publish": map[string]any{"active": true}, "kbps": map[string]any{"recv_30s": 1000, "send_30s": 2000}},
			map[string]any{"clients": 1, "publish": map[string]any{"active": false}, "kbps": map[string]any{"recv_30s": 0, "send_30s": 5}},
		}
	default:
		http.NotFound(w, r)
		return
	}
	json.NewEncoder(w).Encode(reply)
}
