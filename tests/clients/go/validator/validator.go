// Package validator stands in for the module of this name, which needs a Go module proxy. Generated Go code calls it
// when it reads a value that has one of several types. Here it accepts every value.
package validator

func Validate(any) error {
	return nil
}
