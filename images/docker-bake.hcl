# Targets of `docker buildx bake`, on the contexts that `intermodal build` assembles (CONTEXTS). Two ways to use it:
#   intermodal build                      one target at a time, into the engine of this machine;
#   intermodal build --contexts FOLDER    all contexts, then `bake` into a REGISTRY (.github/workflows/images.yml).
variable "CONTEXTS" { default = ".intermodal/build" }
variable "BASE_IMAGE" { default = "intermodal/base:dev" }
variable "TORCH_IMAGE" { default = "intermodal/torch:dev" }

# With a REGISTRY the images go there, under REVISION, with a list of what is in them (SBOM) and of how they were made (provenance),
# and their files are as old as SOURCE_DATE_EPOCH: two builds of one commit are the same layers.
variable "REGISTRY" { default = "" }
variable "REVISION" { default = "dev" }
variable "CACHE" { default = "" } # gha: that of GitHub's actions, one scope an image

group "default" { targets = ["dataset", "backbone", "trainer", "hpo", "converter", "benchmarker", "selector"] }

function "tags" {
  params = [step]
  result = [REGISTRY == "" ? "intermodal/${step}:dev" : "${REGISTRY}/${step}:${REVISION}"]
}

function "read" {
  params = [step]
  result = CACHE == "" ? [] : ["type=${CACHE},scope=${step}"]
}

function "write" {
  params = [step]
  result = CACHE == "" ? [] : ["type=${CACHE},scope=${step},mode=max"]
}

target "all" {
  network = "none"
  attest  = REGISTRY == "" ? [] : ["type=sbom", "type=provenance,mode=max"]
  output  = REGISTRY == "" ? [] : ["type=image,push=true,rewrite-timestamp=true,oci-mediatypes=true"]
}

target "torch" {
  inherits   = ["all"]
  context    = "${CONTEXTS}/torch"
  tags       = tags("torch")
  cache-from = read("torch")
  cache-to   = write("torch")
  args       = { BASE_IMAGE = BASE_IMAGE }
}

target "plain" {
  inherits   = ["all"]
  name       = step
  matrix     = { step = ["dataset", "backbone", "benchmarker", "selector"] }
  context    = "${CONTEXTS}/${step}"
  tags       = tags(step)
  cache-from = read(step)
  cache-to   = write(step)
  args       = { BASE_IMAGE = BASE_IMAGE }
}

target "on-torch" {
  inherits   = ["all"]
  name       = step
  matrix     = { step = ["trainer", "hpo", "converter"] }
  context    = "${CONTEXTS}/${step}"
  tags       = tags(step)
  cache-from = read(step)
  cache-to   = write(step)
  # What is built in the same go is no image yet: bake hands it over by name.
  contexts = REGISTRY == "" ? {} : { torch = "target:torch" }
  args     = { TORCH_IMAGE = REGISTRY == "" ? TORCH_IMAGE : "torch" }
}
