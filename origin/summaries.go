package origin

import (
	"bytes"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clockTicks is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTicks = 100

// sampleEvery is how far apart two looks at CPU counters must be for their
// difference to say something.
const sampleEvery = time.Second

// procSampler reads /proc when it is asked, and remembers the last look for rates.
type procSampler struct {
	mu   sync.Mutex // guards the following
	last procSample
	self float64 // of one CPU, between the last two samples
	sys  float64 // of all CPUs
}

type procSample struct {
	at         time.Time
	self       int64 // ticks
	busy, full int64 // ticks of all CPUs
}

func (*procSampler) pid() int { return os.Getpid() }

// cpu returns this process's share of one CPU, and the machine's of all, each 0
// to 1 and more, as SRS gives them.
func (p *procSampler) cpu(now time.Time, started time.Time) (self, sys float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last.at) < sampleEvery {
		return p.self, p.sys
	}
	s := procSample{at: now, self: selfTicks()}
	s.busy, s.full = cpuTicks()
	since := p.last
	if since.at.IsZero() { // the first look is over the process's life
		since.at = started
	}
	if d := now.Sub(since.at).Seconds(); d > 0 {
		p.self = float64(s.self-since.self) / clockTicks / d
	}
	if d := s.full - since.full; d > 0 {
		p.sys = float64(s.busy-since.busy) / float64(d)
	}
	p.last = s
	return p.self, p.sys
}

// procFields splits /proc/self/stat behind the command's name, which may have
// blanks in it: field 3 of proc(5) is the first.
func procFields() []string {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}

func selfTicks() int64 {
	f := procFields()
	if len(f) < 13 {
		return 0
	}
	return atoi(f[11]) + atoi(f[12]) // utime, stime
}

// cpuTicks reads the first line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq, steal; what follows is counted in user already.
func cpuTicks() (busy, full int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 {
			continue
		}
		full += atoi(f)
		if i != 4 && i != 5 {
			busy += atoi(f)
		}
	}
	return busy, full
}

// keyed reads "Name: value ..." lines, such as those of /proc/meminfo.
func keyed(path string) map[string][]string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	out := make(map[string][]string)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			out[k] = strings.Fields(v)
		}
	}
	return out
}

func number(m map[string][]string, key string, field int) int64 {
	if f := m[key]; field < len(f) {
		return atoi(f[field])
	}
	return 0
}

func floats(path string) (out [3]float64) {
	b, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for i, f := range strings.Fields(string(b)) {
		if i == len(out) {
			break
		}
		out[i], _ = strconv.ParseFloat(f, 64)
	}
	return out
}

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

type apiSelf struct {
	Version    string  `json:"version"`
	PID        int     `json:"pid"`
	PPID       int     `json:"ppid"`
	Argv       string  `json:"argv"`
	Cwd        string  `json:"cwd"`
	MemKbyte   int64   `json:"mem_kbyte"`
	MemPercent float64 `json:"mem_percent"`
	CPUPercent float64 `json:"cpu_percent"`
	Uptime     int64   `json:"srs_uptime"`
}

// apiSystem has SRS's fields. Disk and network device figures are 0: the machine's
// own tools tell those better.
type apiSystem struct {
	CPUPercent      float64 `json:"cpu_percent"`
	DiskReadKBps    int64   `json:"disk_read_KBps"`
	DiskWriteKBps   int64   `json:"disk_write_KBps"`
	DiskBusyPercent float64 `json:"disk_busy_percent"`
	MemRAMKbyte     int64   `json:"mem_ram_kbyte"`
	MemRAMPercent   float64 `json:"mem_ram_percent"`
	MemSwapKbyte    int64   `json:"mem_swap_kbyte"`
	MemSwapPercent  float64 `json:"mem_swap_percent"`
	CPUs            int     `json:"cpus"`
	CPUsOnline      int     `json:"cpus_online"`
	Uptime          float64 `json:"uptime"`
	IdleTime        float64 `json:"ilde_time"` // SRS's spelling
	Load1m          float64 `json:"load_1m"`
	Load5m          float64 `json:"load_5m"`
	Load15m         float64 `json:"load_15m"`
	NetSampleTime   int64   `json:"net_sample_time"`
	NetRecvBytes    int64   `json:"net_recv_bytes"`
	NetSendBytes    int64   `json:"net_send_bytes"`
	NetRecviBytes   int64   `json:"net_recvi_bytes"`
	NetSendiBytes   int64   `json:"net_sendi_bytes"`
	SRSSampleTime   int64   `json:"srs_sample_time"`
	SRSRecvBytes    int64   `json:"srs_recv_bytes"`
	SRSSendBytes    int64   `json:"srs_send_bytes"`
	ConnSys         int64   `json:"conn_sys"`
	ConnSysET       int64   `json:"conn_sys_et"`
	ConnSysTW       int64   `json:"conn_sys_tw"`
	ConnSysUDP      int64   `json:"conn_sys_udp"`
	ConnSRS         int     `json:"conn_srs"`
}

type apiSummary struct {
	OK     bool      `json:"ok"`
	NowMs  int64     `json:"now_ms"`
	Self   apiSelf   `json:"self"`
	System apiSystem `json:"system"`
}

func (o *Origin) apiSummaries(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		apiHead
		Data apiSummary `json:"data"`
	}{o.head(), o.summary(time.Now())})
}

func (o *Origin) summary(now time.Time) apiSummary {
	mem, status, sock := keyed("/proc/meminfo"), keyed("/proc/self/status"), keyed("/proc/net/sockstat")
	self, sys := o.procs.cpu(now, o.started)
	uptime, load := floats("/proc/uptime"), floats("/proc/loadavg")
	total := number(mem, "MemTotal", 0)
	cpus := strings.Count(readFile("/proc/stat"), "\ncpu")
	cwd, err := os.Getwd()
	clients, recv, send := o.hub.counts()

	s := apiSummary{OK: err == nil && total > 0, NowMs: now.UnixMilli()}
	s.Self = apiSelf{
		Version: apiVersion, PID: os.Getpid(), PPID: os.Getppid(), Argv: o.cfg.Args, Cwd: cwd,
		MemKbyte:   number(status, "VmRSS", 0),
		CPUPercent: self,
		Uptime:     int64(now.Sub(o.started).Seconds()),
	}
	s.System = apiSystem{
		CPUPercent: sys, MemRAMKbyte: total, MemSwapKbyte: number(mem, "SwapTotal", 0),
		CPUs: cpus, CPUsOnline: cpus,
		Uptime: uptime[0], IdleTime: uptime[1], Load1m: load[0], Load5m: load[1], Load15m: load[2],
		NetSampleTime: s.NowMs, SRSSampleTime: s.NowMs, SRSRecvBytes: recv, SRSSendBytes: send,
		ConnSys: number(sock, "TCP", 1), ConnSysTW: number(sock, "TCP", 5), ConnSysUDP: number(sock, "UDP", 1),
		ConnSRS: clients,
	}
	if total > 0 {
		s.Self.MemPercent = float64(s.Self.MemKbyte) / float64(total)
		s.System.MemRAMPercent = float64(total-number(mem, "MemAvailable", 0)) / float64(total)
	}
	if swap := s.System.MemSwapKbyte; swap > 0 {
		s.System.MemSwapPercent = float64(swap-number(mem, "SwapFree", 0)) / float64(swap)
	}
	return s
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
