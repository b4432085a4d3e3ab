package supervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkOutput is a file of its own, because the origin itself may be running.
const checkOutput = "check.log"

// check asks the origin's program about the slot's config. It runs like the
// origin itself will: SRS compares max_connections with its limit of open files
// here too.
func (s *slot) check(ctx context.Context) error {
	p, err := s.sup.start(s, checkOutput, s.argv("-t", "-c", s.configFile), nil)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(filepath.Join(s.params.WorkDir, checkOutput)) }()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	select {
	case <-p.gone:
	case <-ctx.Done():
		p.signalGroup(unix.SIGKILL)
		<-p.gone
		return fmt.Errorf("check of %s: %w", s.configFile, ctx.Err())
	}
	if p.exit.Code != 0 {
		words := make([]string, 0, 4)
		for _, line := range p.out.lines(4) {
			words = append(words, logPrefix.ReplaceAllString(line, ""))
		}
		return fmt.Errorf("%w: %s says (%w): %s", ErrConfig, strings.Join(s.argv("-t", "-c", s.configFile), " "), p.exit, strings.Join(words, "; "))
	}
	s.checked = true
	return nil
}
