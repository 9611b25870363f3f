package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is the node, running as a child of the demo, so that it can be
// killed for real. The child reads its standard input, a pipe that nobody
// writes to: when the demo dies, however it dies, the pipe ends and so does the
// child.
type process struct {
	command func(dir string) *exec.Cmd
	dir     string
	logFile string
	admin   string // http://127.0.0.1:9443
	mark    string // a file that the child writes when it is seeded, removed before each start

	mu   sync.Mutex // covers what follows: the one child that runs
	cmd  *exec.Cmd
	pipe io.Closer     // its standard input; ends with it
	done chan struct{} // closed when the child has ended
}

// WatchParent returns a context that ends when the demo that started this
// process is gone. The node's process calls it first.
func WatchParent(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // returns when the parent's end is closed
		cancel()
	}()
	return ctx, cancel
}

// start starts the child and waits until it is seeded and ready to serve, or
// has ended.
func (p *process) start(ctx context.Context) error {
	if err := os.Remove(p.mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cmd := p.command(p.dir)
	log, err := os.OpenFile(p.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent(cmd.SysProcAttr)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		// On Linux the child is told to die with the thread that started it:
		// that thread has to live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is seen by those who ask it something
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	p.mu.Lock()
	p.cmd, p.pipe, p.done = cmd, pipe, done
	p.mu.Unlock()
	return p.awaitReady(ctx, done)
}

// startLimit is how long a node may take to become ready: the first start
// makes keys for every synthetic citizen.
const startLimit = 2 * time.Minute

func (p *process) awaitReady(ctx context.Context, done <-chan struct{}) error {
	limit := time.After(startLimit)
	for {
		if _, err := os.Stat(p.mark); err == nil && p.ready(ctx) == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("the node ended before it was ready; its last words:\n%s", tail(p.logFile))
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("the node was not ready after %s; its last words:\n%s", startLimit, tail(p.logFile))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready asks the node's health endpoint once.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready, status %d: %s", resp.StatusCode, body)
	}
	return nil
}

// kill ends the child as a power cut would, with nothing said (SIGKILL), and
// returns when it is gone.
func (p *process) kill() error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return errors.New("no node is running")
	}
	if err := cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill the node: %w", err)
	}
	<-done
	return nil
}

// stopLimit is how long a node may take to stop in good order.
const stopLimit = 15 * time.Second

// stop asks the child to stop in good order and kills it if it does not.
func (p *process) stop() error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-done:
	case <-time.After(stopLimit):
		_ = cmd.Process.Kill()
		<-done
		return fmt.Errorf("the node did not stop within %s and was killed", stopLimit)
	}
	return nil
}

// tail returns the end of a log.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(data[max(0, len(data)-most):])
}
