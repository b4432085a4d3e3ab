package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// source says where a value came from.
type source int

const (
	fromDefault source = iota
	fromFile
	fromEnv
	fromFlag
)

// value is one resolved setting.
type value struct {
	setting setting
	text    string
	from    source
	// file and line are where a value of the file stands.
	file string
	line int
}

// place names the flag, variable or file line that decided, as an operator
// would look for it.
func (v value) place() string {
	switch v.from {
	case fromFlag:
		return "flag --" + v.setting.name
	case fromEnv:
		return "variable " + v.setting.env
	case fromFile:
		return fmt.Sprintf("%s:%d: %s", v.file, v.line, v.setting.name)
	default:
		return "default of --" + v.setting.name
	}
}

// shown is the value for everybody's eyes.
func (v value) shown() string {
	if v.setting.secret && v.text != "" {
		return "(secret)"
	}
	return v.text
}

// complain says what is wrong with the value. Of a secret it quotes nothing.
func (v value) complain(err error) error {
	if v.setting.secret {
		return usageErrorf("%s: the value %w", v.place(), err)
	}
	return usageErrorf("%s: %q %w", v.place(), v.text, err)
}

// origin is the source in a word or two, for the comments of `config`.
func (v value) origin() string {
	switch v.from {
	case fromFlag:
		return "flag --" + v.setting.name
	case fromEnv:
		return "env " + v.setting.env
	case fromFile:
		return fmt.Sprintf("file %s:%d", v.file, v.line)
	default:
		return "default"
	}
}

// settingError is a setting that cannot be used. Reason completes the sentence
// that begins with the value and says what would be right.
type settingError struct {
	name   string
	value  string
	reason string
}

func (e *settingError) Error() string {
	return fmt.Sprintf("--%s: %q %s", e.name, e.value, e.reason)
}

// sources are where settings are looked up, strongest first. flag and env
// report whether the name was given at all.
type sources struct {
	flag func(name string) (string, bool)
	env  func(name string) (string, bool)
	// command is whose settings they are: proxyCommand, or "" for those of up.
	command string
}

// configFileSetting is how the file itself is named: it cannot be a key of the file.
const (
	configFileFlag = "config"
	configFileEnv  = "SRS_PROXY_CONFIG"
)

// resolved is a Config with the source of each value.
type resolved struct {
	Config
	values []value
}

// value of a setting; it must be one that was resolved.
func (r *resolved) value(name string) value {
	i := slices.IndexFunc(r.values, func(v value) bool { return v.setting.name == name })
	if i < 0 {
		return value{setting: setting{name: name}}
	}
	return r.values[i]
}

// explain adds the source to an error about a setting.
func (r *resolved) explain(err error) error {
	se, ok := errors.AsType[*settingError](err)
	if !ok {
		return err
	}
	return usageErrorf("%s: %q %s", r.value(se.name).place(), se.value, se.reason)
}

// resolve reads the settings called for, all of them when names is empty, with
// the precedence flag > environment > file > default, and validates the result
// once. Every error it returns is a usage error.
func resolve(src sources, names ...string) (*resolved, error) {
	stateDir := defaultStateDir(src.env)
	all := settingsOf(src.command, stateDir)
	file, err := src.readFile(everySetting(stateDir))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if err := src.refuseOthers(file); err != nil {
			return nil, err
		}
	}

	r := &resolved{}
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		v := src.lookup(s, file)
		if v.text != "" || v.from == fromFlag {
			if err := s.apply(&r.Config, v.text); err != nil {
				return nil, v.complain(err)
			}
		}
		r.values = append(r.values, v)
	}
	if r.StateDir == "" {
		return nil, usageErrorf("%s: is empty; give a directory", r.value("state-dir").place())
	}
	r.defaultControl()
	if err := r.Validate(); err != nil {
		return nil, r.explain(err)
	}
	return r, nil
}

// defaultControl puts the socket into the state dir if it was not placed.
func (r *resolved) defaultControl() {
	if r.Control != "" {
		return
	}
	r.Control = filepath.Join(r.StateDir, "control.sock")
	for i := range r.values {
		if r.values[i].setting.name == "control" {
			r.values[i].text = r.Control
		}
	}
}

func (src sources) lookup(s setting, file map[string]fileValue) value {
	v := value{setting: s, text: s.def}
	if t, ok := src.flag(s.name); ok {
		v.text, v.from = t, fromFlag
	} else if t, ok := src.env(s.env); ok && t != "" {
		v.text, v.from = t, fromEnv
	} else if f, ok := file[s.name]; ok {
		v.text, v.from, v.file, v.line = f.text, fromFile, f.file, f.line
	}
	return v
}

// refuseOthers complains of what a file says to another command: whoever wrote it
// expects something of it.
func (src sources) refuseOthers(file map[string]fileValue) error {
	for _, name := range slices.Sorted(maps.Keys(file)) {
		if why := elsewhere(src.command, name); why != "" {
			return usageErrorf("%s:%d: %s", file[name].file, file[name].line, why)
		}
	}
	return nil
}

// readFile reads the configuration file, if one is named.
func (src sources) readFile(all []setting) (map[string]fileValue, error) {
	place := "flag --" + configFileFlag
	path, ok := src.flag(configFileFlag)
	if !ok {
		place = "variable " + configFileEnv
		if path, ok = src.env(configFileEnv); !ok || path == "" {
			return nil, nil
		}
	}
	if path == "" {
		return nil, usageErrorf("%s: is empty; give a file", place)
	}
	file, err := parseFile(path)
	if err != nil {
		return nil, usageErrorf("%s: %q %w", place, path, err)
	}
	return readConfigFile(file, all)
}

// defaultStateDir is the system's place for root and the user's own otherwise
// (XDG Base Directory Specification, XDG_STATE_HOME).
func defaultStateDir(env func(string) (string, bool)) string {
	home, _ := env("HOME")
	xdg, _ := env("XDG_STATE_HOME")
	switch {
	case os.Geteuid() == 0:
		return "/var/lib/srs-proxy"
	case filepath.IsAbs(xdg):
		return filepath.Join(xdg, "srs-proxy")
	default:
		return filepath.Join(cmp.Or(home, "/tmp"), ".local", "state", "srs-proxy")
	}
}
