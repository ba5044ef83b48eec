package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Read reads the JSON form of a Report, as the command writes it. Fields that it does not
// know are passed over; another schema than Schema is an error, and so is anything behind
// the report.
func Read(r io.Reader) (*Report, error) {
	var report struct {
		Schema *int `json:"schema"`
		Report
	}
	d := json.NewDecoder(r)
	if err := d.Decode(&report); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			err = fmt.Errorf("%s cannot be of type %s", cmp.Or(wrong.Field, "it"), wrong.Value)
		}
		return nil, fmt.Errorf("no report of the lab: %w", err)
	}
	switch {
	case report.Schema == nil:
		return nil, errors.New("no report of the lab: it has no schema")
	case *report.Schema != Schema:
		return nil, fmt.Errorf("a report of schema %d; this version reads schema %d", *report.Schema, Schema)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("no report of the lab: something follows it")
	}
	report.Report.Schema = *report.Schema
	return &report.Report, nil
}
