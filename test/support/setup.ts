/** Before every test file; what it imports is evaluated once in each process. */
import "./equality.js";
