// Package supervisor starts origins, watches them and starts them again.
//
//	Config ──Prepare──▶ lock, leftovers, configs written and checked, ports proved free
//	                       │
//	Run ──▶ slot 0 ... slot N: one goroutine each
//	          check ─▶ spawn ─▶ probe ─▶ ready ─▶ ended ─▶ backoff ─▶ (again)
//	                     │                 │         │
//	             own group, pidfd,   balancer.Update │
//	             output to a file               balancer.Remove, before anything else
//	        health: one goroutine for all, liveness and CPU ─▶ slots
//	        state.json: what lives now and what is drained, for a next run
//
//	Scale, Restart, Reload: a successor on spare ports ─▶ ready ─▶ the old one drains ─▶ gone
//	        (generation.go: names, ports and folders; rolling.go: the order of things)
//
// It relays no media and opens no port of its own. It signals a process only
// while it is an unreaped child of this process, so never a stranger.
package supervisor
