package srsconf

// Params is what a config template may use.
type Params struct {
	Slot    int     // index of the slot, from 0
	ID      string  // unique in the cluster: SRS's server_id and heartbeat device_id; default origin-<slot>
	Version Version // of the binary that will read the file; zero means the newest form
	Ports   Ports
	Listen  string // address of the listeners; default 127.0.0.1

	WorkDir string // everything the origin writes is below it; must be absolute
	LogFile string // default WorkDir/srs.log
	PIDFile string // default WorkDir/srs.pid

	MaxConnections int // default 1000, as SRS

	RTC, SRT, Exporter bool
	Candidate          string // what SDP answers carry; default Listen

	AsProcess    bool   // exit with the parent; excludes adoption
	HeartbeatURL string // empty: no heartbeat
	Overlay      string // Overlay.For(slot)
}

// Template is a parsed config template.
type Template struct{}

// ParseTemplate parses the text of a template; name is for the errors.
func ParseTemplate(name, text string) (*Template, error) { return nil, errUnimplemented }

// Render gives the config of one origin. The result has been parsed back.
func (t *Template) Render(p Params) ([]byte, error) { return nil, errUnimplemented }
