module github.com/mfranczy/crd-rest-coverage
