package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mistake is what an operator does to the files before a reload.
type mistake struct {
	name string
	make func(files configFiles) error
	said string // by the command
}

// configFiles are the files of an instance that a reload reads again.
type configFiles struct{ config, template, srs string }

// good is what the instance was started with.
func (c configFiles) good() error { return c.write(c.srs, embeddedTemplate) }

func (c configFiles) write(srs string, template func() (string, error)) error {
	text, err := template()
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.template, []byte(text), 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.config, fmt.Appendf(nil, "srs: %s\ntemplate: %s\n", srs, c.template), 0o600)
}

func embeddedTemplate() (string, error) {
	b, err := os.ReadFile("../../srs.tmpl.conf")
	return string(b), err
}

// missingProgram is no file.
const missingProgram = "/nonexistent/srs"

var mistakes = []mistake{
	{"the program is missing", func(c configFiles) error { return c.write(missingProgram, embeddedTemplate) }, missingProgram},
	{"the template is no template", func(c configFiles) error {
		return c.write(c.srs, func() (string, error) { return "listen {{.Nowhere", nil })
	}, "template"},
	{"the template is missing", func(c configFiles) error { return os.Remove(c.template) }, "template"},
	{"the origin refuses the config", func(c configFiles) error {
		return c.write(c.srs, func() (string, error) {
			text, err := embeddedTemplate()
			return text + "\nno_such_directive on;\n", err
		})
	}, "no_such_directive"},
}

// TestBadReload reloads a configuration that cannot be followed: the command names
// what is wrong, nothing changes and nobody notices. With the mistake mended it goes
// on as if nothing had been.
func TestBadReload(t *testing.T) {
	long(t)
	needCommand(t, "reload")
	dir := t.TempDir()
	files := configFiles{config: filepath.Join(dir, "config.yaml"), template: filepath.Join(dir, "template.conf"), srs: suite.srs}
	if err := files.good(); err != nil {
		t.Fatal(err)
	}
	in := newInstance(t, suite.size.origins, suite.size.origins, "--config", files.config)
	in.args = without(in.args, "--srs") // a flag would win over the file
	in.start()
	in.waitReady(suite.size.origins)
	l, f := in.loaded("`reload` with a missing program or a bad template")
	mistakes := mistakes
	if suite.srs == "builtin" { // which takes directives that it does not know
		mistakes = mistakes[:len(mistakes)-1]
	}
	repeat(t, in, l, f, func(round int) (wrong []string) {
		how := mistakes[round%len(mistakes)]
		for _, w := range badReloadRound(in, l, f, how, files, round) {
			wrong = append(wrong, how.name+": "+w)
		}
		return wrong
	})
}

func badReloadRound(in *instance, l *load, f *fault, how mistake, files configFiles, round int) (wrong []string) {
	before := in.mustStatus()
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("bad%d", round), 100*time.Millisecond)
	l.mark()
	if err := how.make(files); err != nil {
		return append(fresh.end(f), err.Error())
	}
	out, err := in.command("reload")
	f.took.add(time.Since(l.marked))
	if err == nil || !strings.Contains(out, how.said) {
		wrong = append(wrong, fmt.Sprintf("`reload`: %v, and it does not name %q: %.500s", err, how.said, out))
	}
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(nil, f)...)
	if err := files.good(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if out, err := in.command("reload"); err != nil || !strings.Contains(out, "nothing has changed") {
		wrong = append(wrong, fmt.Sprintf("`reload` of the good files: %v: %.300s", err, out))
	}
	wrong = append(wrong, fresh.end(f)...)
	if now := in.mustStatus(); len(now.Origins) != len(before.Origins) {
		wrong = append(wrong, fmt.Sprintf("there are %d origins, and were %d", len(now.Origins), len(before.Origins)))
	}
	wrong = append(wrong, l.single()...)
	return append(wrong, in.siblings(before, nil)...)
}

// without takes a flag and its value away.
func without(args []string, flag string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == flag {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}
