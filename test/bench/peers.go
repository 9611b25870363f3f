package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is one server under test. It is a process of its own, so that what the
// kernel counts for it and its children is what it costs and nothing else.
type peer struct {
	name    string
	addr    string // of its public listener
	metrics string // address of its figures in Prometheus' text form; "" if it has none
	cmd     *exec.Cmd
}

// start runs the command, until stop. What it says goes to a file in dir.
func start(dir, name string, cmd *exec.Cmd) (*peer, error) {
	log, err := os.Create(filepath.Join(dir, strings.NewReplacer(" ", "-", "'", "").Replace(name)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &peer{name: name, cmd: cmd}, nil
}

// stop ends the process: by kill, if it does not end by itself.
func (p *peer) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	p.cmd.Wait() // it was told to end: how it does so says nothing
}

// await waits until the peer answers on its address.
func (p *peer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", p.addr); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w", p.name, p.addr, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cpu is the processor time of the process, its living children and those
// that have ended, user and system, as /proc counts it: in steps of 10 ms.
func (p *peer) cpu() (time.Duration, error) {
	tree, err := tree(p.cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, err)
	}
	return p.cpuOf(tree...)
}

// cpuOf is that of some of them.
func (p *peer) cpuOf(pids ...int) (time.Duration, error) {
	var ticks int64
	for _, pid := range pids {
		stat, err := stat(pid)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, f := range stat[11:15] { // utime, stime, cutime, cstime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every Linux that Go runs on
}

// stat is /proc/PID/stat from the state on, without pid and name.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return f, nil
}

// tree is a process and its living descendants.
func tree(root int) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if f, err := stat(pid); err == nil { // it may have ended meanwhile
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// memory is what processes have of it, in bytes.
type memory struct {
	resident float64
	private  float64 // of that, what is not mapped from a file, such as the program itself
	peak     float64 // resident, at its most
	own      float64 // resident, of the process without its children
	ownPeak  float64
}

// memory is that of the process and its children together.
func (p *peer) memory() (m memory, err error) {
	tree, err := tree(p.cmd.Process.Pid)
	if err != nil {
		return m, err
	}
	for _, pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) != 3 || f[2] != "kB" {
				continue
			}
			kb, _ := strconv.ParseFloat(f[1], 64)
			switch f[0] {
			case "VmRSS:":
				m.resident += kb * 1024
				if pid == tree[0] {
					m.own = kb * 1024
				}
			case "RssAnon:":
				m.private += kb * 1024
			case "VmHWM:":
				m.peak += kb * 1024
				if pid == tree[0] {
					m.ownPeak = kb * 1024
				}
			}
		}
	}
	return m, nil
}

// allocated is how many objects the process has allocated, 0 if it does not say.
func (p *peer) allocated() (float64, error) {
	if p.metrics == "" {
		return 0, nil
	}
	all, err := p.figures()
	if err != nil {
		return 0, err
	}
	v, ok := all["go_memstats_mallocs_total"]
	if !ok {
		return 0, fmt.Errorf("%s does not say what it allocated", p.name)
	}
	return v, nil
}

// figures are the process' figures: by name, or name and labels.
func (p *peer) figures() (map[string]float64, error) {
	res, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	all := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if strings.HasPrefix(lines.Text(), "#") || at < 0 {
			continue
		}
		if all[lines.Text()[:at]], err = strconv.ParseFloat(lines.Text()[at+1:], 64); err != nil {
			return nil, err
		}
	}
	return all, lines.Err()
}

// freeAddr is a loopback address at which nobody listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
