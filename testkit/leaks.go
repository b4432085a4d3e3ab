package testkit

import "go.uber.org/goleak"

// IgnoreSRTDial excuses what the SRT library's client leaves behind when a dial was refused
// or gave up (gosrt v0.10.0, dial.go): its reader and its timer wait to tell somebody who
// has gone.
func IgnoreSRTDial() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/datarhei/gosrt.Dial.func1"),
		goleak.IgnoreTopFunction("github.com/datarhei/gosrt.Dial.func3"),
	}
}
