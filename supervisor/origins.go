package supervisor

import (
	"errors"
	"slices"

	"srs-proxy/runtime"
)

// Origins are all origins now, as a Snapshot has them but without what only their
// APIs know: it asks nobody, and takes no time.
func (s *Supervisor) Origins() []OriginStatus {
	slots := s.all()
	all := make([]OriginStatus, 0, len(slots))
	for _, slot := range slots {
		all = append(all, slot.status())
	}
	return all
}

// CPUsFor are the sets of so many origins, by index: those that there are keep
// theirs, and more get theirs as in a Scale.
func (s *Supervisor) CPUsFor(n int) ([]runtime.CPUSet, error) {
	cfg, places, _ := s.present()
	if n <= len(places) {
		return slices.Clone(cfg.CPUs[:n]), nil
	}
	return moreCPUs(cfg, places, n)
}

// PlanReload says what Reload would do with a Config. It changes nothing, and does
// not ask the origin's program what it thinks of the configs.
func (s *Supervisor) PlanReload(cfg Config) (ReloadResult, error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(cfg.validate(), s.cfg.fixed(&cfg)); err != nil {
		return ReloadResult{}, err
	}
	if err := cfg.findCommand(); err != nil {
		return ReloadResult{}, err
	}
	var plan ReloadResult
	places := s.places()
	for i, cpus := range cfg.CPUs {
		if i >= len(places) {
			plan.Added = append(plan.Added, cfg.id(i, 0))
			continue
		}
		same, err := places[i].sameAs(&cfg, cpus)
		switch {
		case err != nil:
			return ReloadResult{}, err
		case same:
			plan.Unchanged = append(plan.Unchanged, places[i].id)
		default:
			plan.Restarted = append(plan.Restarted, places[i].id)
		}
	}
	for _, old := range places[min(len(cfg.CPUs), len(places)):] {
		plan.Removed = append(plan.Removed, old.id)
	}
	return plan, nil
}
