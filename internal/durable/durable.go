// Package durable puts files on disk so that they are still there, whole, when
// the power comes back.
//
// Everything Pasban keeps outside its database (keys, the ledger's last-seen
// record, exported certificates) is written through [WriteFile]: a reader sees
// the old contents or the new, never a part, and when WriteFile returns the new
// ones are on stable storage. [MkdirAll] makes directories that only Pasban's
// own user can read, [CheckMode] refuses files and directories that others can,
// and [Lock] keeps a second process away.
//
// The package never follows half a write with success: if any step fails the
// old file is left as it was and the temporary one is removed.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DirMode is the mode of directories that Pasban makes.
const DirMode fs.FileMode = 0o700

// WriteFile replaces the file at path by one holding data, with exactly the
// given permissions, whatever the umask says. When it returns nil, the
// contents and the name are on stable storage. When it returns an error, the
// old file is still there, or the new one is but its name may not survive a
// power cut. Two concurrent writers of one path leave one of the two contents.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	f, err := os.CreateTemp(dir, "."+base+".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Chmod(perm.Perm()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// MkdirAll makes path and its missing parents, each with the given permissions
// and on stable storage when it returns. Directories that exist are left as
// they are: [CheckMode] says whether they are private.
func MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make directory %s: there is a file of that name", path)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, perm.Perm()); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // someone else made it in between
		}
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	return SyncDir(parent)
}

// CheckMode returns an error if the group or others have any permission on the
// file or directory at path; it names the command that mends it.
func CheckMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("check the mode of %s: %w", path, err)
	}
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("%s has mode %04o, so others on this machine can reach it (run: chmod %04o %s)",
		path, mode, mode&0o700, path)
}

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("another process holds the lock")

// Lock takes the lock file at path, which is made if need be and stays, for this
// process until the file is closed or the process ends, however it does. It
// fails with ErrLocked at once if another has it.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = ErrLocked
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
}

// SyncDir puts a directory's entries on stable storage: without it a power cut
// can undo a rename that has returned.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return errors.Join(err, d.Close())
	}
	return d.Close()
}
