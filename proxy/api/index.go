package api

import (
	"net/http"

	"srs-proxy/proxy/originapi"
)

// The indexes have SRS's words (SrsGoApiRoot, SrsGoApiApi, SrsGoApiV1).

func rootIndex() originapi.Object {
	var v1, rtc, urls, o originapi.Object
	v1.Set("play", "Play stream")
	v1.Set("publish", "Publish stream")
	v1.Set("nack", "Simulate the NACK")
	rtc.Set("v1", v1)
	urls.Set("api", "the api root")
	urls.Set("rtc", rtc)
	o.Set("urls", urls)
	return o
}

func apiIndex() originapi.Object {
	var urls, o originapi.Object
	urls.Set("v1", "the api version 1.0")
	o.Set("urls", urls)
	return o
}

func v1Index() originapi.Object {
	var urls, tests, o originapi.Object
	for _, u := range [][2]string{
		{"versions", "the version of SRS"},
		{"summaries", "the summary(pid, argv, pwd, cpu, mem) of SRS"},
		{"rusages", "the rusage of SRS"},
		{"self_proc_stats", "the self process stats"},
		{"system_proc_stats", "the system process stats"},
		{"meminfos", "the meminfo of system"},
		{"authors", "the license, copyright, authors and contributors"},
		{"features", "the supported features of SRS"},
		{"requests", "the request itself, for http debug"},
		{"vhosts", "manage all vhosts or specified vhost"},
		{"streams", "manage all streams or specified stream"},
		{"clients", "manage all clients or specified client, default query top 10 clients"},
		{"raw", "raw api for srs, support CUID srs for instance the config"},
		{"clusters", "origin cluster server API"},
		{"perf", "System performance stat"},
		{"tcmalloc", "tcmalloc api with params ?page=summary|api"},
		{"origins", "the origins behind this API, and with an id one of them"},
	} {
		urls.Set(u[0], u[1])
	}
	tests.Set("requests", "show the request info")
	tests.Set("errors", "always return an error 100")
	tests.Set("redirects", "always redirect to /api/v1/test/errors")
	tests.Set("[vhost]", "http vhost for http://error.srs.com:1985/api/v1/tests/errors")
	o.Set("urls", urls)
	o.Set("tests", tests)
	return o
}

func (s *Server) serveIndex(index func() originapi.Object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, append(s.head(codeOK), index()...), nil)
	}
}
