package origin

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What SRS's API tells of its process and of the machine (srs_app_http_api.cpp), and
// of what it can do.

// processRoutes are the paths that say the same whatever is streamed.
func (o *Origin) processRoutes(mux *http.ServeMux) {
	for path, data := range map[string]func() any{
		"rusages":           o.rusages,
		"self_proc_stats":   o.selfProcStats,
		"system_proc_stats": o.systemProcStats,
		"meminfos":          o.memInfos,
		"authors":           func() any { return map[string]any{"license": "MIT", "contributors": "https://github.com/ossrs/srs"} },
		"features":          o.features,
	} {
		mux.HandleFunc("/api/v1/"+path, func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, struct {
				apiHead
				Data any `json:"data"`
			}{o.head(), data()})
		})
	}
	mux.HandleFunc("/api/v1/raw", o.apiRaw)
	mux.HandleFunc("/api/v1/clusters", o.apiClusters)
}

func (o *Origin) rusages() any {
	var ru syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return map[string]any{
		"ok": err == nil, "sample_time": time.Now().UnixMilli(),
		"ru_utime": ru.Utime.Sec, "ru_stime": ru.Stime.Sec, "ru_maxrss": ru.Maxrss, "ru_ixrss": ru.Ixrss, "ru_idrss": ru.Idrss, "ru_isrss": ru.Isrss,
		"ru_minflt": ru.Minflt, "ru_majflt": ru.Majflt, "ru_nswap": ru.Nswap, "ru_inblock": ru.Inblock, "ru_oublock": ru.Oublock,
		"ru_msgsnd": ru.Msgsnd, "ru_msgrcv": ru.Msgrcv, "ru_nsignals": ru.Nsignals, "ru_nvcsw": ru.Nvcsw, "ru_nivcsw": ru.Nivcsw,
	}
}

// statNames are the fields of /proc/PID/stat behind the command's name and the state,
// as proc(5) and SRS call them.
const statNames = "ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime priority nice num_threads" +
	" itrealvalue starttime vsize rss rsslim startcode endcode startstack kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap" +
	" exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time"

func (o *Origin) selfProcStats() any {
	now := time.Now()
	percent, _ := o.procs.cpu(now, o.started)
	fields := procFields()
	data := map[string]any{
		"ok": len(fields) > 0, "sample_time": now.UnixMilli(), "percent": percent, "pid": os.Getpid(),
		"comm": "(" + strings.TrimSpace(readFile("/proc/self/comm")) + ")", "state": "",
	}
	if len(fields) > 0 {
		data["state"] = fields[0]
	}
	for i, name := range strings.Fields(statNames) {
		data[name] = int64(0)
		if i+1 < len(fields) {
			data[name] = wrapped(fields[i+1])
		}
	}
	return data
}

// wrapped reads what the kernel writes without a sign as SRS does, with one.
func wrapped(s string) int64 {
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return int64(n)
	}
	return atoi(s)
}

func (o *Origin) systemProcStats() any {
	now := time.Now()
	_, percent := o.procs.cpu(now, o.started)
	line, _, _ := strings.Cut(readFile("/proc/stat"), "\n")
	fields := strings.Fields(line)
	data := map[string]any{"ok": len(fields) > 0, "sample_time": now.UnixMilli(), "percent": percent}
	for i, name := range []string{"user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal", "guest"} {
		data[name] = int64(0)
		if i+1 < len(fields) {
			data[name] = atoi(fields[i+1])
		}
	}
	return data
}

func (*Origin) memInfos() any {
	mem := keyed("/proc/meminfo")
	total, free := number(mem, "MemTotal", 0), number(mem, "MemFree", 0)
	buffers, cached := number(mem, "Buffers", 0), number(mem, "Cached", 0)
	swap, swapFree := number(mem, "SwapTotal", 0), number(mem, "SwapFree", 0)
	unused := free + buffers + cached
	data := map[string]any{
		"ok": total > 0, "sample_time": time.Now().UnixMilli(), "percent_ram": 0.0, "percent_swap": 0.0,
		"MemActive": total - free, "RealInUse": total - unused, "NotInUse": unused, "MemTotal": total, "MemFree": free,
		"Buffers": buffers, "Cached": cached, "SwapTotal": swap, "SwapFree": swapFree,
	}
	if total > 0 {
		data["percent_ram"] = float64(total-unused) / float64(total)
	}
	if swap > 0 {
		data["percent_swap"] = float64(swap-swapFree) / float64(swap)
	}
	return data
}

// features: what is false SRS has and this origin has not.
func (o *Origin) features() any {
	return map[string]any{
		"options": software, "options2": "", "build": "", "build2": "",
		"features": map[string]bool{
			"ssl": false, "hls": o.cfg.HLSEnabled, "hds": false, "callback": false, "api": true, "httpd": true, "dvr": false, "transcode": false,
			"ingest": false, "stat": true, "caster": false, "complex_send": false, "tcp_nodelay": true, "so_sendbuf": false, "mr": false,
		},
	}
}

// codeRawDisabled is ERROR_SYSTEM_CONFIG_RAW_DISABLED.
const codeRawDisabled = 1061

// apiRaw: the configuration can be looked at as far as it concerns this API.
func (o *Origin) apiRaw(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("rpc") != "raw" {
		o.writeCode(w, codeRawDisabled)
		return
	}
	listen := ""
	if addrs := o.APIAddrs(); len(addrs) > 0 {
		listen = addrs[0].String()
	}
	writeJSON(w, map[string]any{"code": 0, "http_api": map[string]any{
		"enabled": true, "listen": listen, "crossdomain": true,
		"raw_api": map[string]any{"enabled": false, "allow_reload": false, "allow_query": false, "allow_update": false},
	}})
}

// apiClusters: where a stream is (SrsCoWorkers). It is nowhere, for a server that asks:
// this origin sends nobody on.
func (*Origin) apiClusters(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	writeJSON(w, map[string]any{"code": 0, "data": map[string]any{
		"query":  map[string]string{"ip": q.Get("ip"), "vhost": q.Get("vhost"), "app": q.Get("app"), "stream": q.Get("stream")},
		"origin": nil,
	}})
}
