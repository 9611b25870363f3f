package ingest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"pasban/internal/detect/logs"
)

const (
	// maxMessage is the most bytes of one syslog message.
	maxMessage = 256 << 10
	// maxConns is the most connections of one source.
	maxConns = 1024
	// idle is how long a connection may say nothing.
	idle = 15 * time.Minute
	// batchBytes and batchWait are when received messages are spooled together.
	batchBytes = 256 << 10
	batchWait  = 200 * time.Millisecond
	// retry is how long a sender waits for room in the spool at a time.
	retry = 250 * time.Millisecond
)

// serveUDP receives syslog over UDP (RFC 5426): one message a datagram.
func (s *source) serveUDP(ctx context.Context, pc net.PacketConn) {
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()
	if c, ok := pc.(*net.UDPConn); ok {
		c.SetReadBuffer(4 << 20) // as much as the system grants
	}
	buf := make([]byte, 64<<10)
	var batch []byte
	var since time.Time // when the batch was begun
	count, open := int64(0), false
	flush := func() {
		if len(batch) > 0 && s.take(batch) != nil {
			s.dropped.Add(count) // no way to tell the sender
		}
		batch, count, open = batch[:0], 0, false
	}
	defer flush()
	for {
		var until time.Time
		if len(batch) > 0 {
			if until = since.Add(batchWait); open {
				until = until.Add(batchWait)
			}
		}
		pc.SetReadDeadline(until)
		n, _, err := pc.ReadFrom(buf)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				flush()
				continue
			}
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // what the network says of one datagram
		}
		if count++; len(batch) == 0 {
			since = time.Now()
		}
		batch, open = appendMessage(batch, buf[:n]), logs.Unfinished(buf[:n])
		if full(batch, open) {
			flush()
		}
	}
}

// full reports whether a batch is to be spooled, whatever comes. Records of one
// audit event that are in two batches are not put together: while one is open, a
// batch may grow.
func full(batch []byte, open bool) bool {
	return len(batch) >= batchBytes && !open || len(batch) >= 2*batchBytes
}

// appendMessage adds a message as one line: newlines within are spaces.
func appendMessage(batch, message []byte) []byte {
	for len(message) > 0 && (message[len(message)-1] == '\n' || message[len(message)-1] == 0) {
		message = message[:len(message)-1]
	}
	for _, b := range message {
		if b == '\n' || b == '\r' {
			b = ' '
		}
		batch = append(batch, b)
	}
	return append(batch, '\n')
}

// serveTCP receives syslog over TCP (RFC 6587) and TLS (RFC 5425): messages
// with their length before them, or lines.
func (s *source) serveTCP(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, maxConns)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors, for instance
			case <-ctx.Done():
			case <-time.After(retry):
			}
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			s.refuse(logs.Refusal{Why: fmt.Sprintf("more than %d connections", maxConns)})
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			s.conversation(ctx, conn)
		})
	}
}

// conversation reads one connection to its end.
func (s *source) conversation(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	defer conn.Close()
	if s.tls != nil {
		t := tls.Server(conn, s.tls)
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err := t.HandshakeContext(ctx); err != nil {
			s.refuse(logs.Refusal{Why: "no TLS: " + err.Error()})
			return
		}
		conn.SetDeadline(time.Time{})
		conn = t
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	var batch, message []byte
	for {
		open := logs.Unfinished(message)
		if len(batch) > 0 && (full(batch, open) || in.Buffered() == 0 && !(open && soon(conn, in))) {
			if !s.insist(ctx, batch) {
				return
			}
			batch = batch[:0]
		}
		conn.SetReadDeadline(time.Now().Add(idle))
		if ctx.Err() != nil {
			conn.SetReadDeadline(time.Now()) // what is in the buffer is still taken
		}
		var err error
		message, err = readMessage(in, message[:0])
		if len(message) > 0 {
			batch = appendMessage(batch, message)
		}
		if err != nil {
			if len(batch) > 0 {
				s.insist(context.WithoutCancel(ctx), batch)
			}
			if errors.Is(err, errMessage) {
				s.refuse(logs.Refusal{Why: err.Error() + " from " + conn.RemoteAddr().String()})
			}
			return
		}
	}
}

// soon waits a moment for more of a connection.
func soon(conn net.Conn, in *bufio.Reader) bool {
	conn.SetReadDeadline(time.Now().Add(batchWait))
	_, err := in.Peek(1)
	return err == nil
}

// insist spools a batch; while there is no room the connection is not read,
// which makes its sender wait. It reports whether the batch was taken.
func (s *source) insist(ctx context.Context, batch []byte) bool {
	for {
		err := s.take(batch)
		if err == nil {
			return true
		}
		if !errors.Is(err, ErrFull) || ctx.Err() != nil || ctx.Done() == nil {
			s.dropped.Add(1)
			s.refuse(logs.Refusal{Why: "not kept: " + err.Error()})
			return false
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

var errMessage = errors.New("not a syslog message")

// readMessage reads one message. One that begins with a digit has its length
// before it; the others end with their line.
func readMessage(in *bufio.Reader, buf []byte) ([]byte, error) {
	first, err := in.Peek(1)
	if err != nil {
		return buf, err
	}
	if first[0] < '1' || first[0] > '9' {
		return readLine(in, buf)
	}
	head, err := in.Peek(8)
	end := -1
	for i, b := range head {
		if b == ' ' {
			end = i
			break
		}
		if b < '0' || b > '9' {
			return readLine(in, buf) // a line that begins with a number
		}
	}
	if end < 0 {
		if err == nil {
			err = fmt.Errorf("%w: its length is %q", errMessage, head)
		}
		return buf, err
	}
	n, err := strconv.Atoi(string(head[:end]))
	if err != nil || n > maxMessage {
		return buf, fmt.Errorf("%w: its length is %q, over the limit of %d", errMessage, head[:end], maxMessage)
	}
	if _, err := in.Discard(end + 1); err != nil {
		return buf, err
	}
	buf = append(buf, make([]byte, n)...)
	if got, err := io.ReadFull(in, buf[len(buf)-n:]); err != nil {
		return buf[:len(buf)-n+got], err
	}
	return buf, nil
}

// readLine reads to the end of the line. What is longer than a message may be is
// an error, and ends the conversation.
func readLine(in *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(buf)+len(part) > maxMessage {
			return buf[:0], fmt.Errorf("%w: a line over the limit of %d bytes", errMessage, maxMessage)
		}
		buf = append(buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
	}
}
