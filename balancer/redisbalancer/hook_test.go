package redisbalancer

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// blocked holds up all that is sent until its gate is closed.
type blocked struct{ gate chan struct{} }

func (b blocked) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (b blocked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		<-b.gate
		return next(context.WithoutCancel(ctx), cmd)
	}
}

func (b blocked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		<-b.gate
		return next(context.WithoutCancel(ctx), cmds)
	}
}
