module kubevirt.io/virt-template-api
