import java.io.FileInputStream;
import java.security.KeyStore;
import java.util.Base64;

/** Prints the key "client" of a PKCS12 store as PEM: ExportKey.java STORE PASSWORD. */
class ExportKey {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream in = new FileInputStream(args[0])) {
            store.load(in, args[1].toCharArray());
        }
        byte[] key = store.getKey("client", args[1].toCharArray()).getEncoded();
        System.out.println("-----BEGIN PRIVATE KEY-----");
        System.out.println(Base64.getMimeEncoder(64, "\n".getBytes()).encodeToString(key));
        System.out.println("-----END PRIVATE KEY-----");
    }
}
