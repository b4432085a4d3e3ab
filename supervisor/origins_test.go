package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// A plan says what the reload then does, and does nothing itself.
func TestPlanReload(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	cfg.Program = "one"
	f := newFleet(t, cfg).up()
	before := f.pids()
	other := func(change func(*Config)) Config {
		next := cfg
		change(&next)
		return next
	}
	tests := []struct {
		name string
		cfg  Config
		want ReloadResult
	}{
		{"the same", cfg, ReloadResult{Unchanged: []string{"origin-0", "origin-1"}}},
		{"one more", other(func(c *Config) { c.CPUs = append(slices.Clone(c.CPUs), nil) }),
			ReloadResult{Unchanged: []string{"origin-0", "origin-1"}, Added: []string{"origin-2"}}},
		{"one fewer", other(func(c *Config) { c.CPUs = c.CPUs[:1] }), ReloadResult{Unchanged: []string{"origin-0"}, Removed: []string{"origin-1"}}},
		{"another template", other(func(c *Config) { c.Template = template(t, "stats { network 0; }") }), ReloadResult{Restarted: []string{"origin-0", "origin-1"}}},
		{"another program of the same name", other(func(c *Config) { c.Program = "two" }), ReloadResult{Restarted: []string{"origin-0", "origin-1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.PlanReload(tt.cfg)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("plan %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := f.PlanReload(other(func(c *Config) { c.StateDir = "/elsewhere" })); !errors.Is(err, ErrNeedsRestart) {
		t.Errorf("another state dir: %v", err)
	}
	if _, err := f.PlanReload(other(func(c *Config) { c.Command = []string{"/nowhere/srs"} })); !errors.Is(err, ErrNoBinary) {
		t.Errorf("missing program: %v", err)
	}
	if !slices.Equal(f.pids(), before) {
		t.Errorf("pids %v became %v", before, f.pids())
	}

	got, err := f.Reload(t.Context(), other(func(c *Config) { c.Program = "two" }))
	if err != nil || len(got.Restarted) != 2 {
		t.Errorf("reload: %+v, %v", got, err)
	}
	for _, n := range []int{1, 2, 5} {
		if sets, err := f.CPUsFor(n); err != nil || len(sets) != n {
			t.Errorf("CPU sets of %d origins: %v, %v", n, sets, err)
		}
	}
}
