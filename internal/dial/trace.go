package dial

import (
	"context"
	"net/http/httptrace"
	"reflect"
)

// ReplaceTrace returns ctx with trace in the place of the httptrace hooks that are
// in it. httptrace.WithClientTrace alone would call both.
func ReplaceTrace(ctx context.Context, trace *httptrace.ClientTrace) context.Context {
	return httptrace.WithClientTrace(untraced{ctx}, trace)
}

// untraced hides the traces in a context: httptrace's, and the copy of it that
// package net looks for, whose type is internal to the standard library.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	v := c.Context.Value(key)
	if v == nil {
		return nil
	}
	if _, ok := v.(*httptrace.ClientTrace); ok || reflect.TypeOf(v).String() == "*nettrace.Trace" {
		return nil
	}
	return v
}

// namesOnly leaves the hooks for names in ctx: the resolver's own connections to
// name servers are not the request's.
func namesOnly(ctx context.Context) context.Context {
	t := httptrace.ContextClientTrace(ctx)
	if t == nil {
		return ctx
	}
	return ReplaceTrace(ctx, &httptrace.ClientTrace{DNSStart: t.DNSStart, DNSDone: t.DNSDone})
}
