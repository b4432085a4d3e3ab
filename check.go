package main

import "fmt"

// verdict is how a check went.
type verdict string

const (
	verdictOK   verdict = "OK"
	verdictWarn verdict = "WARN"
	verdictFail verdict = "FAIL"
)

// finding is one line of check: what was looked at, what is so, and what to do
// where something is wrong, as a command to paste wherever one does it.
type finding struct {
	Verdict verdict `json:"verdict"`
	Subject string  `json:"subject"`
	Text    string  `json:"text"`
	Fix     string  `json:"fix,omitempty"`
}

func ok(subject, format string, args ...any) finding {
	return finding{Verdict: verdictOK, Subject: subject, Text: fmt.Sprintf(format, args...)}
}

func warn(subject, format string, args ...any) finding {
	return finding{Verdict: verdictWarn, Subject: subject, Text: fmt.Sprintf(format, args...)}
}

func fail(subject, format string, args ...any) finding {
	return finding{Verdict: verdictFail, Subject: subject, Text: fmt.Sprintf(format, args...)}
}

// fixedBy adds what to do.
func (f finding) fixedBy(format string, args ...any) finding {
	f.Fix = fmt.Sprintf(format, args...)
	return f
}

// preflight looks at everything that up depends on. It is a function of the
// facts alone. It goes on after a failure wherever the next question still makes
// sense: the point is to see all at once.
func preflight(f *facts) []finding {
	found := f.unread
	for _, check := range []func(*facts) []finding{
		checkSoftware, checkVariables,
		checkCPUs, checkSiblings, checkQuota, checkCgroups, checkLimits, checkMemory,
		checkFiles, checkPipes,
		checkInstance, checkState, checkDisk,
		checkConfigs, checkHooks, checkSecurity, checkCertificate, checkPortPlan, checkPorts, checkExposed,
		checkEphemeral, checkBacklog, checkUDPBuffers, checkCandidates,
	} {
		found = append(found, check(f)...)
	}
	return found
}

// worst is the verdict of all together.
func worst(found []finding) verdict {
	all := verdictOK
	for _, f := range found {
		switch {
		case f.Verdict == verdictFail:
			return verdictFail
		case f.Verdict == verdictWarn:
			all = verdictWarn
		}
	}
	return all
}
