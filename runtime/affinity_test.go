package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPinSelf(t *testing.T) {
	if len(ourCPUs(t)) < 2 {
		t.Skip("needs two CPUs")
	}
	runHelper(t, "pin-self")
}

// helperPinSelf pins a process whose goroutines start and end threads all the time.
func helperPinSelf() error {
	all, err := AllowedCPUs(os.Getpid())
	if err != nil {
		return err
	}
	first, last := all[:1], all[len(all)-1:]
	s := NewSpawner()
	defer s.Close()

	var churn sync.WaitGroup
	quit := make(chan struct{})
	for range 4 {
		churn.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					goruntime.LockOSThread() // never unlocked: the thread ends with the goroutine
					time.Sleep(time.Millisecond)
				}()
				<-ended
			}
		})
	}
	if err := PinSelf(last); err != nil {
		return err
	}
	for range 50 {
		sets, err := threadSets()
		if err != nil {
			return err
		}
		for tid, set := range sets {
			if !set.Equal(last) {
				return fmt.Errorf("thread %d of %d is on %s, want %s", tid, len(sets), set, last)
			}
		}
	}
	close(quit)
	churn.Wait()

	// Children may go where we no longer may, even while we pin ourselves, and
	// leave us where we are.
	pinning := make(chan struct{})
	var pinErr error
	churn.Go(func() {
		for {
			select {
			case <-pinning:
				return
			default:
				pinErr = errors.Join(pinErr, PinSelf(last))
			}
		}
	})
	for range 50 {
		cmd := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := s.Start(cmd, first, 0); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		if want := "Cpus_allowed_list:\t" + first.String() + "\n"; out.String() != want {
			return fmt.Errorf("a child was born with %q, want %q", out.String(), want)
		}
	}
	close(pinning)
	churn.Wait()
	if pinErr != nil {
		return pinErr
	}
	sets, err := threadSets()
	if err != nil {
		return err
	}
	for tid, set := range sets {
		if !set.Equal(last) {
			return fmt.Errorf("after a spawn thread %d is on %s, want %s", tid, set, last)
		}
	}

	// The Go scheduler follows by itself.
	for deadline := time.Now().Add(20 * time.Second); goruntime.GOMAXPROCS(0) > 1; {
		if time.Now().After(deadline) {
			return fmt.Errorf("GOMAXPROCS is still %d on one CPU", goruntime.GOMAXPROCS(0))
		}
		time.Sleep(10 * time.Millisecond)
	}

	if err := PinSelf(nil); err == nil {
		return errors.New("an empty set is accepted")
	}
	if err := PinSelf(all.Union(CPUSet{maxCPU - 1})); err == nil || !strings.Contains(err.Error(), "can be used") {
		return fmt.Errorf("a set with a CPU that does not exist: %v", err)
	}
	if now, err := AllowedCPUs(os.Getpid()); err != nil || !now.Equal(last) {
		return fmt.Errorf("a refused set left us on %s (%v)", now, err)
	}
	return nil
}

func TestAllowedCPUs(t *testing.T) {
	set, err := AllowedCPUs(os.Getpid())
	if err != nil || len(set) == 0 {
		t.Fatalf("ourselves: %q, %v", set, err)
	}
	affinity, err := getAffinity(os.Getpid())
	if err != nil || !set.Equal(affinity) {
		t.Errorf("/proc says %s, the system call %s (%v)", set, affinity, err)
	}
	if _, err := AllowedCPUs(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}
