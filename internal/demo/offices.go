package demo

import (
	"context"
)

// atWork signs a person in office in and chooses purpose and case at the desk.
func (s *story) atWork(ctx context.Context, who Staff, purpose, caseNo string) (*visitor, error) {
	v, err := s.signIn(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	return v, s.chooseWork(ctx, v, purpose, caseNo)
}

func (s *story) chooseWork(ctx context.Context, v *visitor, purpose, caseNo string) error { panic("x") }
func (s *story) workingDay(ctx context.Context, b *Beat) error                            { panic("x") }
func (s *story) auditCopy(ctx context.Context, name string, forged []byte) error          { panic("x") }
