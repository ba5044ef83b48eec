package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// driver takes samples, each in a process of its own.
type driver struct {
	self     string
	rounds   int
	divide   int // of the number of requests
	profiles string
	progress func(string)
}

// measured are a scenario's samples by client, one a round.
type measured struct {
	Scenario string              `json:"scenario"`
	Samples  map[string][]sample `json:"samples"`
}

// run measures a scenario: in every round each client once, in an order drawn anew.
func (d *driver) run(ctx context.Context, s scenario) (m measured, err error) {
	m = measured{Scenario: s.name, Samples: map[string][]sample{}}
	rounds, requests := d.rounds, s.requests
	if s.kind == kindIdle {
		if requests = min(requests, descriptors()-spareDescriptors); requests < s.requests {
			fmt.Fprintf(os.Stderr, "bench: %s with %d connections: the limit of descriptors allows no more\n", s.name, requests)
			s.requests = requests
		}
	}
	if s.repeats {
		rounds = min(rounds, 3)
	}
	if s.kind == kindLoad {
		requests /= d.divide
	}
	srv, err := d.startServer(ctx, s)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	order := append([]string(nil), s.clients...)
	for round := range rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, name := range order {
			d.progress(fmt.Sprintf("%s: round %d of %d, %s", s.name, round+1, rounds, name))
			v, err := d.sample(ctx, s, name, srv.addr, requests)
			if err != nil {
				return m, fmt.Errorf("%s, %s: %w", s.name, name, err)
			}
			m.Samples[name] = append(m.Samples[name], v)
		}
	}
	return m, nil
}

// spareDescriptors is what a process needs beside its connections.
const spareDescriptors = 200

// descriptors returns how many a process may have. Go raises its own limit to that.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return idleConns + spareDescriptors // the system will tell
	}
	return int(min(l.Max, 1<<30))
}

// sample has a process take one.
func (d *driver) sample(ctx context.Context, s scenario, name, addr string, requests int) (sample, error) {
	cmd := exec.CommandContext(ctx, d.self, "sample", "--scenario", s.name, "--client", name, "--addr", addr, "--requests", strconv.Itoa(requests))
	if d.profiles != "" {
		cmd.Args = append(cmd.Args, "--profile", filepath.Join(d.profiles, s.name+"."+strings.ReplaceAll(name, "/", "")+".pprof"))
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := start(cmd, !s.spread); err != nil {
		return sample{}, err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return sample{}, context.Cause(ctx)
		}
		return sample{}, fmt.Errorf("%w: %s", err, firstLine(errs.String()))
	}
	var v sample
	return v, json.Unmarshal(out.Bytes(), &v)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// serverProcess is a server; stop ends it.
type serverProcess struct {
	addr string
	stop func() error
}

func (d *driver) startServer(ctx context.Context, s scenario) (*serverProcess, error) {
	o := s.server()
	cmd := exec.CommandContext(ctx, d.self, "serve", "--hold", strconv.Itoa(o.hold), "--latency", o.latency.String(), "--tls="+strconv.FormatBool(o.tls),
		"--streams", strconv.Itoa(o.streams))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd, !s.spread); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("start the server: %w", errors.Join(err, cmd.Wait()))
	}
	return &serverProcess{addr: strings.TrimSpace(line), stop: func() error {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("server: %w", err)
		}
		return nil
	}}, nil
}
