// Serves blobs until standard input ends, that is, as long as the process lives that started this.
// node serve.js MAIN [options of azurite]: MAIN is azurite's own script.
process.stdin.resume().on("end", () => process.kill(process.pid, "SIGINT"));
require(process.argv.splice(2, 1)[0]);
