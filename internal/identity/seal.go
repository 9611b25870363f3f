package identity

import (
	"context"
	"encoding/json"
	"fmt"

	"pasban"
)

// Kinds of sealed rows; each is part of what a row is bound to.
const (
	rowPerson  = "person"
	rowPasskey = "passkey"
	rowLink    = "link"
	rowSession = "session"
	rowWork    = "work"
)

// place is what a sealed row is bound to: its kind and its key. A row copied to
// another key, or to another table, does not open.
func place(kind string, key []byte) []byte {
	return fmt.Appendf(nil, "pasban/identity/%s/v1\x00%x", kind, key)
}

// seal seals v as JSON under the subject's key, "" for the agency's own.
func (i *Identity) seal(ctx context.Context, subject pasban.SubjectID, kind string, key []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sealed, err := i.o.Sealer.Seal(ctx, subject, data, place(kind, key))
	if err != nil {
		return nil, fmt.Errorf("seal a %s: %w", kind, err)
	}
	return sealed, nil
}

// open reverses seal. It fails if the row was not sealed for this place.
func (i *Identity) open(ctx context.Context, subject pasban.SubjectID, kind string, key, sealed []byte, v any) error {
	data, err := i.o.Sealer.Open(ctx, subject, sealed, place(kind, key))
	if err != nil {
		return fmt.Errorf("open a %s: %w", kind, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("open a %s: %w", kind, err)
	}
	return nil
}
