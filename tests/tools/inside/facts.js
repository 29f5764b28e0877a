// Prints what the module os says, one `name value` a line.
const os = require("os");
const busy = () => os.cpus().reduce((sum, cpu) => sum + cpu.times.user + cpu.times.sys, 0);
const [before, start] = [busy(), Date.now()];
setTimeout(() => {
    console.log("busy", (100 * (busy() - before)) / (Date.now() - start));
    console.log("cpus", os.cpus().length);
    console.log("unknown", os.cpus().filter((cpu) => cpu.model === "unknown").length);
    console.log("memory", os.totalmem());
    console.log("uptime", os.uptime());
    console.log("load", os.loadavg()[0].toFixed(2));
    console.log("parallelism", os.availableParallelism());
}, 2000);
