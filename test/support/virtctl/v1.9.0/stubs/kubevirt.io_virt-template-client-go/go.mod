module kubevirt.io/virt-template-client-go
