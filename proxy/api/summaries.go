package api

import (
	"net/http"
	"time"

	"srs-proxy/proxy/originapi"
)

// What of a process is summed, and what is not (SRS: srs_api_dump_summaries,
// getrusage(2), proc(5) /proc/PID/stat). What is not named here is the machine's, or
// says something of one process only, and is that of the first origin.

func selfRules() map[string]rule {
	return map[string]rule{"mem_kbyte": sum, "mem_percent": sum, "cpu_percent": sum}
}

// systemRules: srs_recv_bytes and srs_send_bytes are set from totals.
func systemRules() map[string]rule {
	return map[string]rule{"conn_srs": sum, "srs_sample_time": most}
}

func rusageRules() map[string]rule {
	rules := map[string]rule{"ok": every, "sample_time": most}
	for _, name := range []string{
		"ru_utime", "ru_stime", "ru_maxrss", "ru_ixrss", "ru_idrss", "ru_isrss", "ru_minflt", "ru_majflt", "ru_nswap",
		"ru_inblock", "ru_oublock", "ru_msgsnd", "ru_msgrcv", "ru_nsignals", "ru_nvcsw", "ru_nivcsw",
	} {
		rules[name] = sum
	}
	return rules
}

func procRules() map[string]rule {
	rules := map[string]rule{"ok": every, "sample_time": most, "starttime": least}
	for _, name := range []string{
		"percent", "minflt", "cminflt", "majflt", "cmajflt", "utime", "stime", "cutime", "cstime", "num_threads", "vsize",
		"rss", "nswap", "cnswap", "delayacct_blkio_ticks", "guest_time", "cguest_time",
	} {
		rules[name] = sum
	}
	return rules
}

// everywhere asks all origins for an object. Without any answer it has answered the
// client, and says false.
func (s *Server) everywhere(w http.ResponseWriter, r *http.Request, path string) ([]answer, []originError, bool) {
	answers, errs := s.askAll(r, originapi.Question{Path: path})
	if s.challenged(w, answers) {
		return nil, nil, false
	}
	var good []answer
	for _, a := range answers {
		if a.ok() {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		s.answer(w, r, s.head(codeNoAnswer), orNone(errs))
		return nil, nil, false
	}
	return good, errs, true
}

// orNone: an answer with nothing in it says why.
func orNone(errs []originError) []originError {
	if len(errs) == 0 {
		return []originError{{Error: "no origin is there"}}
	}
	return errs
}

// datas are the `data` of answers.
func datas(answers []answer) []originapi.Object {
	bodies := make([]originapi.Object, len(answers))
	for i, a := range answers {
		bodies[i] = a.Body
	}
	return inner(bodies, "data")
}

// serveMerged serves an object whose data are those of all origins, by rules.
func (s *Server) serveMerged(path string, rules map[string]rule, ours func(*originapi.Object)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !only(w, r, http.MethodGet, http.MethodPost) {
			return
		}
		good, errs, ok := s.everywhere(w, r, path)
		if !ok {
			return
		}
		data := merge(datas(good), rules)
		if ours != nil {
			ours(&data)
		}
		o := s.head(codeOK)
		o.Set("data", data)
		s.answer(w, r, o, errs)
	}
}

func (s *Server) serveSummaries(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet, http.MethodPost) {
		return
	}
	good, errs, ok := s.everywhere(w, r, "/api/v1/summaries")
	if !ok {
		return
	}
	parts := datas(good)
	data := merge(parts, map[string]rule{"ok": every})
	data.Set("now_ms", time.Now().UnixMilli())

	self := merge(inner(parts, "self"), selfRules())
	self.Set("pid", s.cfg.Identity.PID)
	self.Set("ppid", s.cfg.Identity.PPID)
	self.Set("argv", s.cfg.Identity.Argv)
	self.Set("cwd", s.cfg.Identity.Cwd)
	self.Set("srs_uptime", int64(time.Since(s.began).Seconds()))
	data.Set("self", self)

	system := merge(inner(parts, "system"), systemRules())
	recv, send := s.totals.count(good, time.Now())
	system.Set("srs_recv_bytes", recv)
	system.Set("srs_send_bytes", send)
	data.Set("system", system)

	o := s.head(codeOK)
	o.Set("data", data)
	s.answer(w, r, o, errs)
}

// ownProcess puts us in the place of the origin whose process it was.
func (s *Server) ownProcess(data *originapi.Object) {
	data.Set("pid", s.cfg.Identity.PID)
	data.Set("ppid", s.cfg.Identity.PPID)
}
