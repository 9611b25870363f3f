package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connections is how many keep-alive connections send at once.
const connections = 8

// message is one request as it goes over the wire.
type message struct {
	raw    []byte
	method string
	attack bool
}

// written turns a request into a message.
func written(r *http.Request) message {
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		panic(err) // into memory
	}
	return message{raw: b.Bytes(), method: r.Method}
}

// sample is what one series of messages cost one peer.
type sample struct {
	cpu      time.Duration // of the peer
	own      time.Duration // of this process: client and upstream
	wall     time.Duration
	requests int
	bytes    int         // of all messages
	allocs   float64     // objects that the peer allocated for them, 0 if it does not say
	status   map[int]int // how they were answered
	refused  int         // messages that are no attack and were not let through
	passed   int         // attacks that were let through
}

func (s sample) perThousand() float64 { return s.cpu.Seconds() / float64(s.requests) * 1000 }

// drive sends the messages over keep-alive connections, each as soon as the
// answer to the one before it on its connection is there.
func (p *peer) drive(list []message) (sample, error) {
	s := sample{requests: len(list), status: map[int]int{}}
	objects, err := p.allocated()
	if err != nil {
		return s, err
	}
	before, err := p.cpu()
	if err != nil {
		return s, err
	}
	own, begin := ownCPU(), time.Now()
	var next atomic.Int64
	var mu sync.Mutex // covers the counts and errs
	var errs []error
	var senders sync.WaitGroup
	for range connections {
		senders.Go(func() {
			c := &client{addr: p.addr}
			defer c.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				m := list[i]
				status, err := c.send(m)
				mu.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("%s, message %d: %w\n%.300q", p.name, i, err, m.raw))
					mu.Unlock()
					next.Store(int64(len(list)))
					return
				}
				s.count(m, status)
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	s.wall, s.own = time.Since(begin), ownCPU()-own
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	after, err := p.cpu()
	if err != nil {
		return s, err
	}
	s.cpu = after - before
	now, err := p.allocated()
	s.allocs = now - objects
	return s, err
}

func (s *sample) count(m message, status int) {
	s.status[status]++
	s.bytes += len(m.raw)
	switch {
	case m.attack && status < 400:
		s.passed++
	case !m.attack && status != http.StatusOK:
		s.refused++
	}
}

// client is one connection, opened anew when the server has closed it.
type client struct {
	addr string
	conn net.Conn
	br   *bufio.Reader
}

// send sends a message and reads the whole answer. A connection that the
// server had already closed between two messages is opened again, once.
func (c *client) send(m message) (int, error) {
	for fresh := false; ; {
		if c.conn == nil {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				return 0, err
			}
			c.conn, c.br, fresh = conn, bufio.NewReaderSize(conn, 8<<10), true
		}
		status, err := c.exchange(m)
		if err == nil {
			return status, nil
		}
		c.close()
		if fresh {
			return 0, err
		}
	}
}

func (c *client) exchange(m message) (int, error) {
	c.conn.SetDeadline(time.Now().Add(time.Minute))
	// A refusal may come, and the connection end, before all is written.
	_, werr := c.conn.Write(m.raw)
	res, err := http.ReadResponse(c.br, &http.Request{Method: m.method})
	if err != nil {
		return 0, errors.Join(werr, err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, err
	}
	if res.Close || werr != nil {
		c.close()
	}
	return res.StatusCode, nil
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
