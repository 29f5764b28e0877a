import java.lang.management.ManagementFactory;

/** Prints what the runtime says, one `name value` a line. */
public class Facts {
    public static void main(String[] arguments) throws Exception {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        system.getCpuLoad();
        Thread.sleep(2000);
        System.out.println("busy " + 100 * system.getCpuLoad());
        System.out.println("cpus " + Runtime.getRuntime().availableProcessors());
        System.out.println("memory " + system.getTotalMemorySize());
        System.out.println("load " + system.getSystemLoadAverage());
    }
}
