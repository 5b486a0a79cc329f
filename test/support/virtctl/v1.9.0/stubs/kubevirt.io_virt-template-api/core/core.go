// Package core has what `virtctl template`, `virtctl vmexport` and informers name, so that virtctl compiles: uploads use none of it.
package core

const (
	GroupName                   = "template.kubevirt.io"
	SingularResourceName        = "virtualmachinetemplate"
	PluralResourceName          = "virtualmachinetemplates"
	SingularRequestResourceName = "virtualmachinetemplaterequest"
)
