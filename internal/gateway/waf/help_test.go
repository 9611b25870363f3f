package waf

import (
	"context"
	"net/http/httptest"
)

type recorderKey struct{}

func withRecorder(ctx context.Context, w *httptest.ResponseRecorder) context.Context {
	return context.WithValue(ctx, recorderKey{}, w)
}

// iotestReader fails, and notes whether it was read.
type iotestReader struct {
	err  error
	read bool
}

func (r *iotestReader) Read([]byte) (int, error) {
	r.read = true
	return 0, r.err
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
