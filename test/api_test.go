package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterReply is an answer of the public API.
type clusterReply struct {
	Code                 int
	Server, Service, PID string
	Errors               []struct{ Origin, Error string }
	Streams, Clients     []clusterItem
	Vhosts               []clusterItem
	Origins              []struct {
		ID, State string
		PID       int
		Streams   int
		Pub, Play int
		Endpoints struct{ RTMP, API string }
	}
	Data struct {
		Version string
		System  struct {
			Clients int `json:"conn_srs"`
		}
	}
}

type clusterItem struct {
	ID, Name, Vhost, IP, Origin, Stream, Type string
	Clients, Streams                          int
	Publish                                   json.RawMessage
}

// ask asks the public API.
func (in *instance) ask(t *testing.T, method, path string) (reply clusterReply) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := fetch(ctx, method, "http://"+in.api()+path, nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if r.code != http.StatusOK {
		t.Fatalf("%s %s: status %d: %s", method, path, r.code, r.body)
	}
	if err := json.Unmarshal(r.body, &reply); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
	}
	return reply
}

// askAll asks until all origins have answered: on a busy machine one of them may take
// too long.
func (in *instance) askAll(t *testing.T, path string) (reply clusterReply) {
	t.Helper()
	eventually(t, 20*time.Second, path+" of all origins", func() (bool, string) {
		reply = in.ask(t, http.MethodGet, path)
		return len(reply.Errors) == 0, fmt.Sprintf("%+v", reply.Errors)
	})
	return reply
}

func names(items []clusterItem) []string {
	var all []string
	for _, i := range items {
		all = append(all, i.Name)
	}
	slices.Sort(all)
	return all
}

// TestHTTPAPI: three origins look like one SRS.
func TestHTTPAPI(t *testing.T) {
	t.Parallel()
	in := up(t, 3)
	var streams []string
	var others []*publisher
	for i := range 6 {
		name := fmt.Sprintf("api%d", i)
		streams = append(streams, name)
		others = append(others, in.publish(t, name))
	}
	const publisherIP, playerIP = "127.0.0.81", "127.0.0.82"
	from := func(ip string) *peer {
		p := &peer{conn: dialFrom(t, ip, in.rtmp()).(*net.TCPConn)}
		_ = p.conn.SetDeadline(time.Now().Add(rtmpTimeout))
		if err := p.connect("rtmp://" + in.rtmp() + "/live"); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := from(publisherIP)
	if err := p.publish("mine"); err != nil {
		t.Fatal(err)
	}
	mine := feed(p)
	t.Cleanup(mine.stop)
	streams = append(streams, "mine")
	player := from(playerIP)
	if err := player.play("mine"); err != nil {
		t.Fatal(err)
	}
	watch(t, "mine", player.conn, player.media).awaitFrames(t, 3, 20*time.Second)

	t.Run("every path", func(t *testing.T) {
		first := in.ask(t, http.MethodGet, "/api/v1/versions")
		if first.Server == "" || first.Service == "" || first.PID != fmt.Sprint(in.cmd.Process.Pid) || first.Data.Version == "" {
			t.Errorf("versions: %+v", first)
		}
		for _, path := range []string{
			"summaries", "rusages", "self_proc_stats", "system_proc_stats", "meminfos", "authors", "features", "requests", "vhosts", "streams", "clients", "origins", "",
		} {
			r := in.askAll(t, "/api/v1/"+path)
			if r.Code != 0 || r.Server != first.Server || r.Service != first.Service || r.PID != first.PID {
				t.Errorf("%s: %+v", path, r)
			}
		}
		if r := in.ask(t, http.MethodGet, "/api/v1/raw?rpc=raw"); r.Code != 0 {
			t.Errorf("raw: %+v", r)
		}
		if n := in.askAll(t, "/api/v1/summaries").Data.System.Clients; n != len(streams)+1 && suite.srs == "" { // SRS counts every few seconds
			t.Errorf("%d clients in all, want %d", n, len(streams)+1)
		}
	})
	t.Run("every stream once", func(t *testing.T) {
		r := in.askAll(t, "/api/v1/streams?count=1000")
		if got := names(r.Streams); !slices.Equal(got, streams) {
			t.Errorf("streams %q, want %q", got, streams)
		}
		vhosts := in.askAll(t, "/api/v1/vhosts").Vhosts
		for _, s := range r.Streams {
			if home, n := in.home(t, s.Name); s.Origin != home || n != 1 {
				t.Errorf("stream %s: at %s, which is said to be %s", s.Name, home, s.Origin)
			}
			if len(vhosts) != 1 || vhosts[0].ID != s.Vhost {
				t.Errorf("stream %s: of vhost %s, and the vhosts are %+v", s.Name, s.Vhost, vhosts)
			}
		}
	})
	t.Run("real clients", func(t *testing.T) {
		ips := make(map[string]string)
		for _, c := range in.askAll(t, "/api/v1/clients?count=1000").Clients {
			if c.Name == "mine" {
				ips[string(c.Publish)] = c.IP
			}
		}
		if ips["true"] != publisherIP || ips["false"] != playerIP {
			t.Errorf("publisher and player of the stream: %v, want %s and %s", ips, publisherIP, playerIP)
		}
	})
	t.Run("origins", func(t *testing.T) {
		r := in.ask(t, http.MethodGet, "/api/v1/origins")
		pub := 0
		for i, o := range r.Origins {
			s := in.status().Origins[i]
			if o.ID != s.ID || o.PID != s.PID || o.State != "ready" || o.Endpoints.API == "" {
				t.Errorf("%+v; status says %+v", o, s)
			}
			pub += o.Pub
			own := in.ask(t, http.MethodGet, "/api/v1/origins/"+o.ID+"/versions")
			if own.PID != fmt.Sprint(s.PID) {
				t.Errorf("%s itself says pid %s, want %d", o.ID, own.PID, s.PID)
			}
		}
		if pub != len(streams) {
			t.Errorf("%d publishers in all, want %d", pub, len(streams))
		}
	})
	t.Run("DELETE", func(t *testing.T) {
		id := ""
		for _, c := range in.askAll(t, "/api/v1/clients?count=1000").Clients {
			if c.Name == "mine" && string(c.Publish) == "true" {
				id = c.ID
			}
		}
		if r := in.ask(t, http.MethodDelete, "/api/v1/clients/"+id); r.Code != 0 {
			t.Fatalf("DELETE of %q: %+v", id, r)
		}
		select {
		case <-mine.done:
		case <-time.After(10 * time.Second):
			t.Error("the publisher is still there 10 s after the DELETE")
		}
		if r := in.ask(t, http.MethodDelete, "/api/v1/clients/"+id); r.Code != 2049 {
			t.Errorf("DELETE of one that is gone: %+v", r)
		}
		for i, p := range others {
			select {
			case <-p.done:
				t.Errorf("%s ended too", streams[i])
			default:
			}
		}
	})
}

// TestHTTPAPIWithStoppedOrigin: its part is missing for as long as it is, and each
// answer comes in a second.
func TestHTTPAPIWithStoppedOrigin(t *testing.T) {
	t.Parallel()
	in := up(t, 3)
	for i := range 6 {
		in.publish(t, fmt.Sprintf("stop%d", i))
	}
	victim, _ := in.home(t, "stop0")
	if err := syscall.Kill(in.status().origin(victim).PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	missing := false
	for _, path := range []string{"/api/v1/streams?count=1000", "/api/v1/clients", "/api/v1/summaries", "/api/v1/versions", "/api/v1/vhosts", "/api/v1/clients/none"} {
		began := time.Now()
		r := in.ask(t, http.MethodGet, path)
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("%s took %s", path, took)
		}
		for _, e := range r.Errors {
			if e.Origin != victim || e.Error == "" || strings.Contains(e.Error, "127.0.0.1") {
				t.Errorf("%s: error %+v, want one of %s", path, e, victim)
			}
			missing = true
		}
		if r.Code != 0 && r.Code != 2049 {
			t.Errorf("%s: code %d", path, r.Code)
		}
	}
	if !missing {
		t.Error("no answer says that an origin is missing")
	}
	// By itself all is well again: the origin is replaced.
	eventually(t, 30*time.Second, "no error in the list of streams", func() (bool, string) {
		r := in.ask(t, http.MethodGet, "/api/v1/streams?count=1000")
		return len(r.Errors) == 0, fmt.Sprintf("%+v", r.Errors)
	})
}
