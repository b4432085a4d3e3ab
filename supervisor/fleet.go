package supervisor

import (
	"context"
	"errors"
)

// ReloadResult lists what a Reload did, by origin id.
type ReloadResult struct {
	Unchanged []string `json:"unchanged,omitempty"`
	Restarted []string `json:"restarted,omitempty"`
	Added     []string `json:"added,omitempty"`
	Removed   []string `json:"removed,omitempty"`
}

// Scale changes how many origins there are. New ones are prepared (config, check,
// ports) and started; those with the highest numbers drain to the deadline, stop
// and are forgotten. An error leaves all as it was.
func (s *Supervisor) Scale(_ context.Context, _ int) error { return errors.ErrUnsupported }

// Drain keeps new streams from origins, of all when none is named; what streams
// they have stay. It survives a restart of the supervisor.
func (s *Supervisor) Drain(_ context.Context, _ ...string) error { return errors.ErrUnsupported }

// Undrain takes a Drain back.
func (s *Supervisor) Undrain(_ context.Context, _ ...string) error { return errors.ErrUnsupported }

// Restart replaces the processes of origins, of all when none is named, one after
// the other: the new one is ready on spare ports before the old one drains.
func (s *Supervisor) Restart(_ context.Context, _ ...string) error { return errors.ErrUnsupported }

// Reload makes the supervisor follow another Config. All of it is checked first:
// an error changes nothing and says why. Only origins whose config, CPUs, limits
// or command changed are replaced, as Restart does.
func (s *Supervisor) Reload(_ context.Context, _ Config) (ReloadResult, error) {
	return ReloadResult{}, errors.ErrUnsupported
}
