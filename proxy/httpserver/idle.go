package httpserver

import (
	"slices"
	"sync"
	"time"
)

// idleTime is how long a connection waits for another request: less than origins wait.
const idleTime = 30 * time.Second

// idlers are the idle connections to origins.
type idlers struct {
	mu   sync.Mutex               // guards the following fields
	most int                      // at each address; 0 after close
	at   map[string][]*originConn // by address, the last used one at the end
}

// take returns an idle connection that the origin has not closed, or nil.
func (i *idlers) take(addr string) *originConn {
	for {
		i.mu.Lock()
		all := i.at[addr]
		if len(all) == 0 {
			i.mu.Unlock()
			return nil
		}
		c := all[len(all)-1]
		i.remove(c)
		i.mu.Unlock()
		if c.Quiet() {
			return c
		}
		c.Close()
	}
}

// put keeps a connection and reports whether there was room.
func (i *idlers) put(c *originConn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.at[c.addr]) >= i.most {
		return false
	}
	i.at[c.addr] = append(i.at[c.addr], c)
	if c.expiry == nil {
		c.expiry = time.AfterFunc(idleTime, func() { i.expire(c) })
	} else {
		c.expiry.Reset(idleTime)
	}
	return true
}

func (i *idlers) expire(c *originConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.remove(c) {
		c.Close()
	}
}

// remove takes c out; i.mu is held.
func (i *idlers) remove(c *originConn) bool {
	all := i.at[c.addr]
	at := slices.Index(all, c)
	if at < 0 {
		return false
	}
	c.expiry.Stop()
	if all = slices.Delete(all, at, at+1); len(all) == 0 {
		delete(i.at, c.addr)
	} else {
		i.at[c.addr] = all
	}
	return true
}

// close ends all of them, and keeps none from now on.
func (i *idlers) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.most = 0
	for _, all := range i.at {
		for _, c := range all {
			c.expiry.Stop()
			c.Close()
		}
	}
	clear(i.at)
}
