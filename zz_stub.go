package berth

import "context"

func (g *Group) SetPolicy(p Policy) error              { return p.validate("Policy") }
func (g *Group) SetAllowAddr(f func(AddrInfo) error)   {}
func WithoutQueue(ctx context.Context) context.Context { return ctx }
